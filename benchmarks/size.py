"""``size``: bytes on the wire for each event of the treasure hunt, beside CloudEvents JSON.

Counted where the bytes are written to the peer's socket, everything included, and divided by the
number of events: ``together`` as the flow of a busy service is framed, ``apart`` with every event
in a frame of its own. CloudEvents JSON is the bare text with the same ids, without the framing
that a carrier would add.
"""

from benchmarks.launch import Options, Pair, launch
from benchmarks.processes import ContestantFailed, Worker
from benchmarks.report import Benchmark, Figure, Target
from benchmarks.statistics import Summary, ratios, summarise

__all__ = ["run"]

EVENTS = 5_000
QUICK_EVENTS = 500
WARM_UP_EVENTS = 20
ALL = "all, mean"
JSON = "CloudEvents JSON"


def run(options: Options) -> Benchmark:
    """Measure bytes an event."""
    events = QUICK_EVENTS if options.quick else EVENTS
    benchmark = Benchmark(
        name="size",
        title="Bytes of a treasure-hunt event on the wire",
        settings={"events of each type": events},
    )
    pair = Pair(answering="thence.size:Reader", driving="thence.size:Writer")
    options.say("size")
    with launch(benchmark, {"thence": pair}, loop="asyncio", brokers=False) as running:
        for contestant, (reader, writer) in list(running.pairs.items()):
            with running.trying(contestant):
                benchmark.figures = _figures(reader, writer, events)
    targets = []
    for role in ("root", "consequence"):
        targets.append(
            Target(
                text=f"a {role} together with others, against {JSON}",
                bound=0.2,
                sense="at most",
                measured=benchmark.find(ALL, "together", role, JSON),
            )
        )
    benchmark.targets = targets
    return benchmark


def _figures(reader: Worker, writer: Worker, events: int) -> list[Figure]:
    names: list[str] = writer.call("names")
    figures: list[Figure] = []
    for role, caused in (("root", False), ("consequence", True)):
        wire: dict[bool, list[float]] = {False: [], True: []}
        json: list[float] = []
        for which in range(len(names)):
            _count(reader, writer, which, WARM_UP_EVENTS, caused, False)  # names are interned now
            reader.call("json_bytes")
            for apart, sizes in wire.items():
                sizes.append(_count(reader, writer, which, events, caused, apart) / events)
            json.append(reader.call("json_bytes"))
        for title, sizes in (("together", wire[False]), ("apart", wire[True])):
            figures += _table(names, role, title, sizes, json)
        figures += _table(names, role, JSON, json, None)
    return figures


def _count(
    reader: Worker, writer: Worker, which: int, count: int, caused: bool, apart: bool
) -> int:
    """Return the bytes written for ``count`` events that have all been handled."""
    reader.call("expect", count=count)
    reader.begin("handled")
    writer.call("start_count")
    writer.call("emit", which=which, count=count, caused=caused, apart=apart)
    handled = reader.result()["handled"]
    if handled != count:
        raise ContestantFailed(f"{handled} of {count} events were handled; no size can be told")
    written: int = writer.call("written")
    if not written:
        raise ContestantFailed("no byte was seen to leave; does the node write without sockets?")
    return written


def _table(
    names: list[str], role: str, quantity: str, sizes: list[float], json: list[float] | None
) -> list[Figure]:
    def figure(contestant: str, summary: Summary, against: str = "") -> Figure:
        return Figure(
            contestant=contestant,
            quantity=quantity,
            unit="×" if against else "bytes",
            summary=summary,
            variant=role,
            against=against,
        )

    mean = sum(sizes) / len(sizes)
    figures = [figure(name, summarise([size])) for name, size in zip(names, sizes, strict=True)]
    figures.append(figure(ALL, summarise([mean])))
    if json is not None:
        for name, size, other in zip(names, sizes, json, strict=True):
            figures.append(figure(name, ratios([size], [other]), JSON))
        figures.append(figure(ALL, ratios([mean], [sum(json) / len(json)]), JSON))
    return figures
