"""A million keys beside a thousand: rates, start, memory."""

from __future__ import annotations

from pathlib import Path

from benchmarks.finding import Finding, Ratio, figure
from benchmarks.home import API, OWN, load
from benchmarks.load import Question, write_script
from benchmarks.machine import memory
from benchmarks.processes import Processes
from benchmarks.product import start
from benchmarks.rounds import Settings, Subject, take_turns

FEW = 1000


def million(processes: Processes, place: Path, upstream: int, settings: Settings, *, count: int) -> Finding:
    """The same calls to two servers, one with few keys and one with `count`, in turn."""
    finding = Finding("million", f"{count:,} keys beside {FEW:,}")
    rates: dict[str, dict[int, Subject]] = {"verify": {}, "gateway": {}}
    running = []
    for keys in (FEW, count):
        loaded = load(place / f"of-{keys}", keys, upstream)
        product, seconds = start(processes, loaded)
        running.append(product.process)
        product.pin(settings.subject_cores, settings.other_cores)
        held = memory(product.workers()[0])
        finding.lines.append(
            f"{keys:,} keys: loaded into the store in {figure(loaded.seconds)} s; first decision after "
            f"{figure(seconds)} s; worker {figure(held.resident / 2**20)} MiB, "
            f"control process {figure(memory(product.control_pid()).resident / 2**20)} MiB"
        )
        if keys == count:
            finding.ratios += [
                Ratio(f"start with {count:,} keys", seconds, 5, True, " s"),
                Ratio(f"memory of a worker with {count:,} keys", held.resident / 2**30, 1.2, True, " GiB"),
            ]
        questions = {
            "verify": (product.verify_question(), loaded.keys[OWN]),
            "gateway": (
                Question("GET", f"/{API}/v1/models", {"Authorization": "Bearer $KEY"}),
                loaded.keys[API],
            ),
        }
        for name, (question, plain) in questions.items():
            used = plain[: FEW // 2 - 20]  # as many keys in use in both, so that only those not used differ
            script = write_script(place / f"{name}-{keys}.lua", question, used)
            finding.lines.append(f"    codes of 20 keys, {name}: {product.codes(question, used[:20])}")
            rates[name][keys] = Subject(
                f"{name}, {keys:,} keys", product.gateway, script, {"worker": product.workers()[0]}
            )
    for name, subjects in rates.items():
        take_turns(list(subjects.values()), settings)
        finding.ratios.append(
            Ratio(
                f"{name}: rate with {count:,} / {FEW:,} keys", subjects[count].rate / subjects[FEW].rate, 0.9
            )
        )
        for subject in subjects.values():
            finding.lines += subject.lines()
            finding.bars[subject.name] = subject.rate
    finding.bars_unit = "calls a second"
    for process in running:
        processes.end(process)
    return finding
