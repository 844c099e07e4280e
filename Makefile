# Everything a newcomer and CI need. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HUNT := badges clues hints hunts leagues notifications players ranks scores treasures
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help demo test check bench wheel-test test-pythons format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.runtime  ## watch a dozen processes play a treasure hunt (DEMO="--seconds 30")
	@$(BIN)/thence demo $(DEMO)

test: $(VENV)/.dev  ## run the tests
	@$(BIN)/python -m pytest -n 2 -q $(TESTS)

check: $(VENV)/.dev  ## style, types, import contracts, the cascades of the treasure hunt
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@cd examples && ../$(BIN)/thence check --quiet $(foreach service,$(HUNT),treasure_hunt.$(service):$(service))

bench: $(VENV)/.dev  ## measure, beside the brokers that can be reached (BENCH="hop --quick")
	@$(BIN)/python -m benchmarks $(BENCH)

wheel-test: $(VENV)/.dev  ## build the wheel and try it outside the source tree
	@./scripts/wheel-test $(abspath $(BIN))/python

test-pythons: ## run the tests of how handlers run on every other Python that is here
	@./scripts/test-pythons

format: $(VENV)/.dev  ## put the code into shape
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .

clean:  ## remove everything that was made here
	rm -rf $(VENV) .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Thence needs Python 3.11 or later: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'pip>=25.1'

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	@echo "Installing what running needs ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing what developing needs ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo]' --group dev
	@touch $@ $(VENV)/.runtime
