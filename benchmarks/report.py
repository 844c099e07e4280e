"""The report of a run: what people compare and what ``--json`` writes.

Figures only ever come from samples of this run. A contestant that could not take part stands in
``missing`` with the reason, one that broke on the way in ``failed``; neither gets a figure.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from benchmarks.machine import Machine
from benchmarks.statistics import Summary, ratios, summarise

__all__ = ["SCHEMA", "Absence", "Benchmark", "Figure", "Report", "Target", "figures_of"]

SCHEMA = "thence.benchmarks/1"


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One quantity of one contestant; ``against`` names the base when it is a ratio."""

    contestant: str
    quantity: str
    unit: str
    summary: Summary
    variant: str = ""
    against: str = ""


class Absence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A contestant without figures, and why."""

    contestant: str
    reason: str
    variant: str = ""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A figure the project promised. Told, never enforced: benchmarks are not tests."""

    text: str
    bound: float
    sense: Literal["at most", "at least"]
    measured: float | None

    @property
    def met(self) -> bool | None:
        """Whether the figure keeps the promise; ``None`` if it was not measured."""
        if self.measured is None:
            return None
        if self.sense == "at most":
            return self.measured <= self.bound
        return self.measured >= self.bound


class Benchmark(msgspec.Struct, kw_only=True):
    """All that one benchmark found."""

    name: str
    title: str
    settings: dict[str, int | float | str] = {}
    figures: list[Figure] = []
    targets: list[Target] = []
    missing: list[Absence] = []
    failed: list[Absence] = []
    notes: list[str] = []

    def find(
        self, contestant: str, quantity: str, variant: str = "", against: str = ""
    ) -> float | None:
        """Return the median of a figure, or ``None`` when it was not measured."""
        wanted = (contestant, quantity, variant, against)
        for figure in self.figures:
            found = (figure.contestant, figure.quantity, figure.variant, figure.against)
            if found == wanted:
                return figure.summary.median
        return None

    def note(self, text: str) -> None:
        """Add a remark once, however many launches make it."""
        if text not in self.notes:
            self.notes.append(text)

    def absent(self, absence: Absence, *, failed: bool) -> None:
        """Record a contestant without figures once for each variant."""
        absences = self.failed if failed else self.missing
        names = [(other.contestant, other.variant) for other in absences]
        if (absence.contestant, absence.variant) not in names:
            absences.append(absence)


class Report(msgspec.Struct, kw_only=True):
    """One run of the benchmarks on one machine."""

    schema: str = SCHEMA
    started: str
    seconds: float
    quick: bool
    machine: Machine
    versions: dict[str, str]
    benchmarks: list[Benchmark]


def figures_of(
    quantity: str,
    unit: str,
    launches: Mapping[str, Sequence[float]],
    *,
    bases: Sequence[str] = (),
    variant: str = "",
) -> list[Figure]:
    """Turn one sample per contestant and launch into figures and ratios.

    A ratio is formed within each launch, so that what slows a whole launch cancels out; a base
    that did not take part in every launch of the contestant gives no ratio.
    """
    figures = [
        Figure(
            contestant=contestant,
            quantity=quantity,
            unit=unit,
            summary=summarise(samples),
            variant=variant,
        )
        for contestant, samples in launches.items()
        if samples
    ]
    for base in bases:
        denominators = launches.get(base, ())
        figures += [
            Figure(
                contestant=contestant,
                quantity=quantity,
                unit="×",
                summary=ratios(samples, denominators),
                variant=variant,
                against=base,
            )
            for contestant, samples in launches.items()
            if samples and contestant != base and len(samples) == len(denominators)
        ]
    return figures
