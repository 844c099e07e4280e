"""Secrets and private fields are in no line, whichever way they come."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import logging
import pickle
from collections import defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence import Batch, Context, Event, Node, Service
from thence.observability import (
    IdsFilter,
    JsonFormatter,
    PlainFormatter,
    PrettyFormatter,
    RepeatsFilter,
)
from thence.observability.masking import mask
from thence.testing import run

SECRET = "4111-1111"
FORMATTERS = [JsonFormatter(), PlainFormatter(), PrettyFormatter()]


class Paid(Event, private=["card", "codes"]):
    player: str
    card: str
    codes: dict[str, list[int]] = msgspec.field(default_factory=dict)


class Wrapped(msgspec.Struct):
    paid: Paid


@dataclasses.dataclass
class Held:
    paid: Paid


Pair = namedtuple("Pair", "one two")
PAID = Paid(player="ana", card=SECRET)


def failure(*arguments: object) -> Exception:
    try:
        try:
            raise KeyError(PAID)
        except KeyError as cause:
            raise ValueError(*arguments) from cause
    except ValueError as error:
        return error


LEAKS: dict[str, Callable[[logging.Logger], None]] = {
    "argument": lambda log: log.error("%s", PAID),
    "repr of an argument": lambda log: log.error("%r", PAID),
    "named argument": lambda log: log.error("%(paid)s", {"paid": PAID}),
    "message": lambda log: log.error(PAID),
    "formatted message": lambda log: log.error(f"{PAID} {PAID!r}"),  # noqa: G004
    "argument too many": lambda log: log.error("none", *[PAID]),
    "argument of a wrong kind": lambda log: log.error("%d", PAID),
    "list": lambda log: log.error("%s", [PAID]),
    "nested": lambda log: log.error("%s", {"a": ({PAID.player: [PAID]},)}),
    "struct": lambda log: log.error("%s", Wrapped(PAID)),
    "dataclass": lambda log: log.error("%s", Held(PAID)),
    "extra": lambda log: log.error("x", extra={"paid": PAID}),
    "extra of a known name": lambda log: log.error("x", extra={"event": PAID}),
    "nested extra": lambda log: log.error("x", extra={"a": {"b": [(PAID, {1: PAID})]}}),
    "key of an extra": lambda log: log.error("x", extra={"a": {PAID.player: 1, repr(PAID): 2}}),
    "struct as extra": lambda log: log.error("x", extra={"a": Wrapped(PAID), "b": Held(PAID)}),
    "other containers": lambda log: log.error(
        "x", extra={"a": deque([PAID]), "b": Pair(PAID, [PAID]), "c": [[[[[[[PAID]]]]]]]}
    ),
    "exception's argument": lambda log: log.error("x", exc_info=failure(PAID)),
    "exception's nested arguments": lambda log: log.error("x", exc_info=failure([PAID], {"a": PAID})),
    "exception as argument": lambda log: log.error("%s %r", failure(PAID), failure([PAID])),
    "exception as message": lambda log: log.error(failure(PAID)),
    "exception as extra": lambda log: log.error("x", extra={"why": failure(PAID)}),
    "group": lambda log: log.error("x", exc_info=ExceptionGroup("several", [failure(PAID)])),
    "stack": lambda log: log.error("x", stack_info=True, extra={"paid": PAID}),
    "fingerprint": lambda log: log.error("x", extra={"fingerprint": PAID}),
    "url": lambda log: log.error("postgresql://user:%s@host/db", SECRET),
    "url in an exception": lambda log: log.error("x", exc_info=failure(f"redis://:{SECRET}@h:1")),
    "url in an extra": lambda log: log.error("x", extra={"store": [f"amqp://u:{SECRET}@h"]}),
    "url as a template": lambda log: log.error(f"amqp://u:{SECRET}@h"),  # noqa: G004
    "name of an extra": lambda log: log.error("x", extra={"db_password": SECRET, "a": {"token": SECRET}}),
    "connection string": lambda log: log.error("host=h password=%s", SECRET),
    "dict with a password": lambda log: log.error("%s", {"password": SECRET}),
    "header": lambda log: log.error("%s", {"Authorization": f"Bearer {SECRET}"}),
    "middle of a long text": lambda log: log.error("%s postgresql://u:%s@h %s", "x" * 8185, SECRET, "y" * 9000),
}  # fmt: skip


@pytest.fixture(params=FORMATTERS, ids=lambda one: type(one).__name__)
def written(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """All that has been logged, summaries among it, by a handler with both filters."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    repeats = RepeatsFilter()
    handler.addFilter(IdsFilter())
    handler.addFilter(repeats)
    handler.setFormatter(request.param)
    loggers = [logging.getLogger(name) for name in ("shop", "thence")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False

    def all_of_it() -> str:
        repeats.close()
        return stream.getvalue()

    yield all_of_it
    for logger in loggers:
        logger.removeHandler(handler)
        logger.propagate = True


@pytest.mark.parametrize("way", LEAKS)
def test_no_way_of_logging_shows_a_private_field_or_a_secret(
    way: str, written: Callable[[], str]
) -> None:
    # Not that of the same name, which pytest watches, and fails when a record is broken.
    log = logging.Logger("shop")  # noqa: LOG001
    log.addHandler(next(h for h in logging.getLogger("shop").handlers if h.filters))
    for _ in range(3):
        LEAKS[way](log)
    lines = written()
    assert "more in" in lines
    assert SECRET not in lines


def settled(service: Service, *events: Event) -> None:
    async def main() -> None:
        async with Node(service, mesh="memory:log-secrets") as node:
            for receipt in [await node.emit(event) for event in events]:
                await receipt.settled(5)

    run(main())


@pytest.mark.parametrize(
    "way",
    [
        "error",
        "nested error",
        "log",
        "own names",
        "own id",
        "extra",
        "dict",
        "thence",
        "suspending",
    ],
)
def test_values_that_a_handler_takes_out_of_its_event_are_hidden_in_what_it_logs_or_raises(
    way: str, written: Callable[[], str]
) -> None:
    service = Service("till")
    prices = defaultdict[str, int](None)

    @service.on(Paid)
    async def take(paid: Paid) -> None:
        log = logging.getLogger("shop")
        match way:
            case "error":
                prices[paid.card]
            case "nested error":
                raise failure({"of": paid.codes})
            case "log":
                log.error("card %s", paid.card)
            case "own names":
                names = ("private", "batch", "handler", "event", "fingerprint")
                log.error("card %s", paid.card, extra=dict.fromkeys(names, 1))
            case "own id":
                log.error("card %s", paid.card, extra={"event_id": "another"})
            case "thence":
                logging.getLogger("thence").error("card %s", paid.card)
            case "extra":
                log.error("x", extra={"card": paid.card, "codes": paid.codes})
            case "dict":
                log.error("%s", msgspec.structs.asdict(paid))
            case _:
                await asyncio.sleep(0.1)
                raise ValueError(paid.card)

    event = Paid(player="ana", card=SECRET, codes={"pin": [829317]})
    settled(service, event, event, event)
    lines = written()
    assert "more in" in lines
    assert SECRET not in lines
    assert "829317" not in lines


@pytest.mark.parametrize("pin", ["0000", "0001", "till"])
def test_a_private_value_that_is_in_an_id_by_chance_leaves_the_id_whole(
    pin: str, written: Callable[[], str]
) -> None:
    service = Service("till")
    seen: list[str] = []

    @service.on(Paid)
    async def take(paid: Paid, ctx: Context) -> None:
        seen.append(ctx.event_id)
        raise ValueError(f"<{paid.card}>")

    settled(service, Paid(player="ana", card=pin))
    lines = written()
    assert f"event {seen[0]}" in lines
    assert f"<{pin}>" not in lines


def test_the_values_of_all_events_of_a_batch_are_hidden(written: Callable[[], str]) -> None:
    service = Service("till")

    @service.on(Paid, batch=Batch(size=2, within="1s"))
    async def take(batch: list[Paid]) -> None:
        raise ValueError([paid.card for paid in batch])

    settled(service, Paid(player="ana", card=SECRET), Paid(player="bo", card="5500-0000"))
    lines = written()
    assert "failed on 2 events" in lines
    assert SECRET not in lines
    assert "5500-0000" not in lines


def test_what_is_to_be_hidden_does_not_leave_the_process_with_the_record() -> None:
    service = Service("till")
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    @service.on(Paid)
    async def take(paid: Paid) -> None:
        logging.getLogger("shop").error("said")

    kept = Kept()
    kept.addFilter(IdsFilter())
    logging.getLogger("shop").addHandler(kept)
    try:
        settled(service, PAID)
    finally:
        logging.getLogger("shop").removeHandler(kept)
    assert repr(records[0]._thence_private) == "•••"  # type: ignore[attr-defined]
    assert SECRET.encode() not in pickle.dumps(records[0].__dict__)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:{}@host:5432/db",
        "postgresql://user:{}@host, redis://:{}@other",
        "redis://:{}@host",
        "postgresql://user:p@{}@host",
        "postgresql://user:a/{}@host",
        "postgresql://user:a'{}@host",
        "'mongodb+srv://u%40x:{}@host'",
        "https://{}{}{}@host",
        "postgresql://host/db?user=u&password={}",
        "PGPASSWORD={} psql",
        "client_secret={}&x=1",
        "{{'api_key': '{}'}}",
        '{{"password": "a\\"{}"}}',
        "[('token', '{}')]",
        "{{b'authorization': b'Basic {}'}}",
        "Authorization: Bearer {}",
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(text: str) -> None:
    shown = mask(text.replace("{}", SECRET).replace("{{", "{").replace("}}", "}"))
    assert SECRET not in shown
    assert "•••" in shown


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/users/ana@example.com",
        "https://host/path?x=1",
        "{'url': 'http://host:8080', 'mail': 'ana@example.com'}",
        "tcp://127.0.0.1:7000 and ana@example.com",
        "http://[::1]:80/ana@example.com",
        "unexpected token ')' in line 3",
        "5 tokens left: ana has 3",
    ],
)
def test_what_is_no_secret_is_left(text: str) -> None:
    assert mask(text) == text


@given(
    password=st.text(
        st.characters(blacklist_categories=["Cs", "Z", "Cc"]), min_size=6, max_size=40
    ).filter(lambda p: not p[:1].isdigit() and "://" not in p),
    user=st.sampled_from(["", "u", "user.name"]),
)
def test_no_password_of_a_url_is_shown(password: str, user: str) -> None:
    assert password not in mask(f"can't reach postgresql://{user}:{password}@host/db: no")


def test_masking_takes_time_in_proportion_to_the_text() -> None:
    hostile = [
        "://a:" * 20_000 + "@",
        "password=" * 20_000,
        "'token" * 20_000,
        "authorization " * 9000,
    ]
    for text in hostile:
        mask(text)


def test_json_of_an_extra_that_is_an_event_is_its_repr() -> None:
    record = logging.LogRecord("shop", 40, __file__, 1, "x", (), None)
    record.__dict__["paid"] = PAID
    shown = json.loads(JsonFormatter().format(record))
    assert shown["extra"]["paid"] == repr(PAID)
