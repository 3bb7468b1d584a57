"""Rates: verify beside a bare endpoint, the gateway beside nginx, the gateway beside LiteLLM's proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import journal, litellm
from benchmarks.finding import Finding, Ratio, figure
from benchmarks.home import API, OWN, Loaded
from benchmarks.load import Question, write_script
from benchmarks.machine import ROOT, pin
from benchmarks.origin import CHAT, Nginx, start_proxy
from benchmarks.processes import Processes, answers
from benchmarks.product import Product, serving
from benchmarks.rounds import Settings, Subject, take_turns
from valetkey.demo.stage import free_port

BODY = (
    '{"model":"gpt-4o-mini","messages":[{"role":"system","content":"Be brief."},'
    '{"role":"user","content":"Say hello."}]}'
)


def verify(processes: Processes, loaded: Loaded, place: Path, settings: Settings) -> Finding:
    """Decisions over HTTP against an endpoint of the same server that decides nothing."""
    finding = Finding("verify", "Verify over HTTP, beside a bare ASGI endpoint of Granian's embedded server")
    bare, port = _start_bare(processes)
    with serving(processes, loaded) as product:
        _place(product, settings, bare.pid)
        question = product.verify_question()
        script = write_script(place / "verify.lua", question, loaded.keys[OWN])
        finding.lines.append(f"codes of 20 keys: {product.codes(question, loaded.keys[OWN][:20])}")
        folder = loaded.folder / "journal"
        before = journal.sizes(folder)
        ours = Subject("valetkey verify", product.gateway, script, _roles(product))
        reference = Subject("bare endpoint", port, script, {"server": bare.pid})
        take_turns([reference, ours], settings)
        counted = journal.codes_since(folder, before)
    processes.end(bare)
    _compare(finding, "verify / bare endpoint", reference, ours, 0.5)
    finding.lines.append(_journalled(counted))
    return finding


def gateway(
    processes: Processes, loaded: Loaded, upstream: Nginx, place: Path, settings: Settings
) -> Finding:
    """A small GET through the gateway against the same through nginx."""
    finding = Finding(
        "gateway", "Gateway, GET with an answer of 11 bytes, beside nginx proxy_pass (keep-alive)"
    )
    proxy = start_proxy(processes, place, upstream.port)
    with serving(processes, loaded) as product:
        _place(product, settings, proxy.worker)
        question = Question("GET", f"/{API}/v1/models", {"Authorization": "Bearer $KEY"})
        finding.lines.append(f"codes of 20 keys: {product.codes(question, loaded.keys[API][:20])}")
        folder = loaded.folder / "journal"
        before = journal.sizes(folder)
        ours = Subject(
            "valetkey gateway",
            product.gateway,
            write_script(place / "gateway.lua", question, loaded.keys[API]),
            {**_roles(product), "upstream": upstream.worker},
        )
        direct = Question("GET", "/v1/models", {"Authorization": "Bearer $KEY"})
        script = write_script(place / "nginx.lua", direct, loaded.keys[API])
        reference = Subject(
            "nginx proxy_pass", proxy.port, script, {"worker": proxy.worker, "upstream": upstream.worker}
        )
        take_turns([reference, ours], settings)
        counted = journal.codes_since(folder, before)
    processes.end(proxy.process)
    _compare(finding, "gateway / nginx proxy_pass", reference, ours, 0.25)
    finding.lines.append(_journalled(counted))
    return finding


def beside_litellm(
    processes: Processes, loaded: Loaded, upstream: Nginx, place: Path, settings: Settings
) -> Finding:
    """The same chat completion through both proxies to the same upstream."""
    finding = Finding(
        "litellm", "Gateway, POST of a chat completion, beside LiteLLM's proxy (one worker each)"
    )
    started = litellm.start(processes, upstream.port, loaded.real_key)
    if isinstance(started, str):
        finding.lines.append(f"not measured: {started}")
        return finding
    with serving(processes, loaded) as product:
        _place(product, settings, started.process.pid)
        json_body = {"Content-Type": "application/json"}
        question = Question(
            "POST",
            f"/{API}/v1/chat/completions",
            {"Authorization": "Bearer $KEY", **json_body},
            BODY,
        )
        finding.lines.append(f"codes of 20 keys: {product.codes(question, loaded.keys[API][:20])}")
        ours = Subject(
            "valetkey gateway",
            product.gateway,
            write_script(place / "chat.lua", question, loaded.keys[API]),
            _roles(product),
        )
        theirs = Question(
            "POST", "/v1/chat/completions", {"Authorization": f"Bearer {started.key}", **json_body}, BODY
        )
        reference = Subject(
            "litellm proxy",
            started.port,
            write_script(place / "litellm.lua", theirs, ["one"]),
            {"server": started.process.pid},
        )
        take_turns([reference, ours], settings)
    processes.end(started.process)
    finding.lines.append(
        f"LiteLLM {started.version}, its own log and database off, one master key; answer of {len(str(CHAT))} bytes"
    )
    _compare(finding, "gateway / LiteLLM's proxy", reference, ours, 50)
    return finding


def _compare(finding: Finding, name: str, reference: Subject, ours: Subject, target: float) -> None:
    """The ratio of two rates that were measured in turns, with the figures and the bars behind it."""
    finding.ratios.append(Ratio(name, ours.rate / reference.rate, target))
    finding.lines += [*reference.lines(), *ours.lines()]
    finding.bars = {subject.name: subject.rate for subject in (reference, ours)}
    finding.bars_unit = "calls a second"


def _start_bare(processes: Processes) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    process = processes.start(
        "bare",
        [sys.executable, "-m", "benchmarks.bare", str(port)],
        {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    processes.wait_for(process, lambda: answers(port), "the bare endpoint")
    return process, port


def _roles(product: Product) -> dict[str, int]:
    return {"worker": product.workers()[0], "control process": product.control_pid()}


def _place(product: Product, settings: Settings, *references: int) -> None:
    product.pin(settings.subject_cores, settings.other_cores)
    for reference in references:
        if settings.subject_cores:
            pin(reference, settings.subject_cores)


def _journalled(counted: dict[str, int]) -> str:
    said = ", ".join(f"{code} {count:,}" for code, count in sorted(counted.items()))
    total = sum(counted.values()) or 1
    return f"in the journal: {said} ({figure(100 * counted.get('VALID', 0) / total)} % VALID)"
