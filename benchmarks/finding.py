"""What a part of the run found: lines for people, ratios against targets, figures for plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """One figure that has a target."""

    what: str
    value: float
    target: float
    at_most: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target

    def line(self) -> str:
        sign = "at most" if self.at_most else "at least"
        verdict = "met" if self.met else "MISSED"
        value, target = (f"{figure(number)}{self.unit}" for number in (self.value, self.target))
        return f"{self.what}: {value} (target {sign} {target}) {verdict}"


@dataclass
class Finding:
    """One part of the run."""

    name: str
    title: str
    ratios: list[Ratio] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    bars: dict[str, float] = field(default_factory=dict)
    """Name -> figure of a bar chart, in the unit of `bars_unit`."""
    bars_unit: str = ""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Name -> sorted latencies in milliseconds."""

    def text(self) -> str:
        """The part as it stands in the terminal and in docs."""
        return "\n".join(
            [
                self.title,
                *(f"  {ratio.line()}" for ratio in self.ratios),
                *(f"  {line}" for line in self.lines),
            ]
        )


def figure(value: float) -> str:
    """A number with three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.01 or value == 0 else f"{value:.2g}"


def at(values: Sequence[float], share: float) -> float:
    """The quantile of sorted values by the nearest rank: so large a share of them is no larger."""
    return values[max(0, ceil(len(values) * share) - 1)]


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{figure(median(values))} ({figure(min(values))} to {figure(max(values))})"
