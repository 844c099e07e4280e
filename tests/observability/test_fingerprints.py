"""Which errors are alike."""

from __future__ import annotations

import json
from collections.abc import Callable

from thence import Event
from thence.events import spec_of
from thence.observability import fingerprint_of


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def helper(value: str) -> None:
    raise ValueError(value)


def test_the_message_makes_no_difference() -> None:
    one, another = (raised(lambda text=text: helper(text)) for text in ("a", "b"))
    assert fingerprint_of(one) == fingerprint_of(another)


def test_the_type_and_the_line_make_a_difference() -> None:
    def first() -> None:
        raise ValueError

    def second() -> None:
        raise KeyError

    assert fingerprint_of(raised(first)) != fingerprint_of(raised(second))
    assert fingerprint_of(raised(first)) != fingerprint_of(raised(lambda: helper("a")))


def test_the_frame_is_the_own_one_nearest_to_where_it_was_raised() -> None:
    found = fingerprint_of(raised(lambda: helper("a")))
    assert (found.error, found.function) == ("ValueError", "helper")
    assert str(found) == f"ValueError at {__name__}.helper:{found.line}"


def test_the_standard_library_and_thence_are_not_ones_own() -> None:
    def parse() -> None:
        json.loads("{")

    def describe() -> None:
        spec_of(int)  # type: ignore[type-var]

    assert fingerprint_of(raised(parse)).function.endswith("parse")
    assert fingerprint_of(raised(parse)).error == "json.decoder.JSONDecodeError"
    assert fingerprint_of(raised(describe)).function.endswith("describe")
    assert issubclass(Event, object)


def test_an_error_from_installed_code_only_is_placed_there() -> None:
    namespace: dict[str, Callable[[], object]] = {"loads": json.loads}  # type: ignore[dict-item]
    source = "def work():\n    return loads('{')\n"
    exec(compile(source, "/srv/lib/site-packages/shop/prices.py", "exec"), namespace)
    error = raised(namespace["work"])
    error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
    assert fingerprint_of(error).function == "work"


def test_an_error_that_was_never_raised_has_its_type() -> None:
    assert str(fingerprint_of(ValueError("x"))) == "ValueError"


def test_a_group_names_the_types_in_it() -> None:
    group = ExceptionGroup("several", [ValueError(1), KeyError(2), ValueError(3)])
    assert fingerprint_of(group).error == "ExceptionGroup[KeyError, ValueError]"
    many = ExceptionGroup("many", [ValueError(), KeyError(), TypeError(), OSError()])
    assert fingerprint_of(many).error.endswith(", …]")


def test_the_deepest_recursion_has_a_fingerprint() -> None:
    def deeper() -> None:
        deeper()

    assert fingerprint_of(raised(deeper)).function.endswith("deeper")
