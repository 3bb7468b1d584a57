"""Subjects measured in turn, A B A B, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.finding import figure, spread
from benchmarks.load import CONNECTIONS, Shot, shoot
from benchmarks.machine import cpu_seconds


@dataclass(frozen=True)
class Settings:
    """How long and where."""

    rounds: int
    seconds: int
    subject_cores: set[int] | None = None
    other_cores: set[int] | None = None

    def pinning(self) -> str:
        """As the text says it."""
        if not self.subject_cores or not self.other_cores:
            return "not pinned"
        subject, others = _cores(self.subject_cores), _cores(self.other_cores)
        return (
            f"for rates (verify, gateway, LiteLLM) what is measured runs on core {subject} and the load generator on "
            f"core {others}, so that every subject has one core; the other parts are not pinned"
        )


@dataclass
class Subject:
    """Something that answers at a port."""

    name: str
    port: int
    script: Path
    processes: dict[str, int]
    """Role -> process id: what each uses of the processor is counted."""
    connections: int = CONNECTIONS
    shots: list[Shot] = field(default_factory=list)
    micros: dict[str, list[float]] = field(default_factory=dict)
    """Role -> microseconds of processor time a call, a round each."""

    @property
    def rate(self) -> float:
        return median(shot.rate for shot in self.shots)

    def cost(self, role: str) -> float:
        """Median processor time a call of one role, microseconds."""
        return median(self.micros[role])

    def lines(self) -> list[str]:
        """The subject in words."""
        shots = self.shots
        costs = ", ".join(f"{role} {figure(self.cost(role))} µs" for role in self.processes)
        refused, broken = sum(s.refused for s in shots), sum(s.broken for s in shots)
        return [
            f"{self.name}: {spread([s.rate for s in shots])} calls/s, {self.connections} connections, "
            f"p50 {figure(median(s.p50 for s in shots))} ms, p99 {figure(median(s.p99 for s in shots))} ms",
            f"    processor time a call: {costs}; {refused} answers not 2xx, {broken} broken",
        ]


def take_turns(subjects: Sequence[Subject], settings: Settings) -> None:
    """Warm each up for a second, then measure in turn."""
    for subject in subjects:
        shoot(subject.port, subject.script, 1, connections=subject.connections, cores=settings.other_cores)
    for _ in range(settings.rounds):
        for subject in subjects:
            before = {role: cpu_seconds(pid) for role, pid in subject.processes.items()}
            shot = shoot(
                subject.port,
                subject.script,
                settings.seconds,
                connections=subject.connections,
                cores=settings.other_cores,
            )
            subject.shots.append(shot)
            for role, pid in subject.processes.items():
                spent = cpu_seconds(pid) - before[role]
                subject.micros.setdefault(role, []).append(spent / max(1, shot.calls) * 1e6)


def _cores(cores: set[int]) -> str:
    return ",".join(map(str, sorted(cores)))
