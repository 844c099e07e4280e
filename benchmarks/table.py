"""The report as tables for people."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.report import Benchmark, Figure, Report
from benchmarks.statistics import Summary

__all__ = ["print_report"]


def print_report(report: Report, console: Console) -> None:
    """Print a whole report."""
    machine = report.machine
    console.print(f"\n{machine.processor}, {machine.processors} processors, {machine.system}")
    versions = [f"{name} {version}" for name, version in report.versions.items()]
    console.print(", ".join(versions), style="dim")
    for benchmark in report.benchmarks:
        print_benchmark(benchmark, console)
    if report.quick:
        console.print("\nA quick run: it shows that everything works; the figures mean little.")
    console.print(f"\n{report.seconds:.0f} s")


def print_benchmark(benchmark: Benchmark, console: Console) -> None:
    """Print one benchmark: figures, promises, and who is missing."""
    console.print()
    if benchmark.figures:
        console.print(_figures(benchmark))
    else:
        console.print(f"[bold]{benchmark.title}[/]: no figures")
    settings = ", ".join(f"{name} {value}" for name, value in benchmark.settings.items())
    console.print(f"medians (least to greatest); {settings}", style="dim")
    for target in benchmark.targets:
        told = {True: "[green]kept[/]", False: "[red]not kept[/]", None: "not measured"}[target.met]
        measured = "" if target.measured is None else f": {_number(target.measured)}"
        text = escape(f"{target.text}{measured}, {target.sense} {_number(target.bound)}")
        console.print(f"  {told}  {text}")
    for kind, absences in (("missing", benchmark.missing), ("failed", benchmark.failed)):
        for absence in absences:
            name = " ".join(filter(None, (absence.contestant, absence.variant)))
            console.print(f"  [yellow]{kind}[/]  {escape(f'{name}: {absence.reason}')}")
    for note in benchmark.notes:
        console.print(f"  {escape(note)}", style="dim")


def _figures(benchmark: Benchmark) -> Table:
    table = Table(title=benchmark.title, title_justify="left", title_style="bold")
    columns = list(dict.fromkeys(_column(figure) for figure in benchmark.figures))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for figure in benchmark.figures:
        row = rows.setdefault((figure.variant, figure.contestant), {})
        row[_column(figure)] = _cell(figure.summary)
    has_variants = any(variant for variant, _ in rows)
    if has_variants:
        table.add_column("")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    previous = None
    for (variant, contestant), cells in rows.items():
        if previous not in (None, variant):
            table.add_section()
        previous = variant
        names = [variant, contestant] if has_variants else [contestant]
        table.add_row(*names, *(cells.get(column, "") for column in columns))
    return table


def _column(figure: Figure) -> str:
    if figure.against:
        return f"{figure.quantity} × {figure.against}"
    return f"{figure.quantity}, {figure.unit}"


def _cell(summary: Summary) -> str:
    if len(summary.samples) == 1:
        return _number(summary.median)
    spread = f"{_number(summary.minimum)} to {_number(summary.maximum)}"
    return f"{_number(summary.median)} ({spread})"


def _number(value: float) -> str:
    """Three significant digits, never an exponent."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}" if abs(value) >= 1 else f"{value:.3f}"
