"""Holds type checkers to the promise that declarations are checked as they are typed.

`accepted/` must pass mypy and pyright, both strict, without a word. In `rejected/` both must
complain about each line that carries a `# rejected: why` comment, and about no other line. Each
checker runs once over all files; to add a case, add a line or a file to either folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
MARKER = re.compile(r"#\s*rejected: \S")
MYPY_ERROR = re.compile(r"(?P<file>.+?):(?P<line>\d+): error: (?P<message>.*)")
LONGEST_RUN = 300

Complaints = dict[tuple[str, int], str]
"""What a checker says, by file (relative to this folder) and line."""


def marked_lines() -> set[tuple[str, int]]:
    return {
        (file.relative_to(HERE).as_posix(), number)
        for file in sorted((HERE / "rejected").glob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if MARKER.search(line)
    }


def run(*command: str) -> str:
    """The standard output of a checker, which ends with 0 (content) or 1 (complaints)."""
    environment = {**os.environ, "MYPYPATH": str(SOURCE), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    if done.returncode not in (0, 1) or not done.stdout:
        cannot_run(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def cannot_run(reason: str) -> NoReturn:
    """Skip on a developer's machine; in CI, where all is installed, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def mypy(cache: Path) -> Complaints:
    output = run(
        "mypy",
        *("--strict", "--config-file=", f"--cache-dir={cache / 'mypy'}", "--no-error-summary"),
        *("--follow-imports=silent", "--explicit-package-bases", "accepted", "rejected"),
    )
    return {
        (Path(found["file"]).as_posix(), int(found["line"])): found["message"]
        for found in map(MYPY_ERROR.fullmatch, output.splitlines())
        if found
    }


def pyright(cache: Path) -> Complaints:
    project = cache / "pyrightconfig.json"
    settings = {
        "include": [os.path.relpath(HERE / folder, cache) for folder in ("accepted", "rejected")],
        "extraPaths": [str(SOURCE)],
        "typeCheckingMode": "strict",
    }
    project.write_text(json.dumps(settings))
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(project))
    found = json.loads(output)["generalDiagnostics"]
    return {
        (
            Path(each["file"]).relative_to(HERE).as_posix(),
            each["range"]["start"]["line"] + 1,
        ): each["message"]
        for each in found
        if each["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checkers_complain_about_the_marked_lines_and_no_others(
    checker: Callable[[Path], Complaints], tmp_path: Path
) -> None:
    complaints = checker(tmp_path)
    marked = marked_lines()

    assert {place: complaints[place] for place in complaints.keys() - marked} == {}
    assert marked - complaints.keys() == set()


def test_there_are_cases_of_both_kinds() -> None:
    assert marked_lines()
    assert list((HERE / "accepted").glob("*.py"))
