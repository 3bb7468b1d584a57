"""Latency that the gateway adds at 1,000 calls a second: direct, through nginx and through the gateway in turn."""

from __future__ import annotations

from pathlib import Path

from benchmarks.finding import Finding, Ratio, at, figure
from benchmarks.home import API, Loaded
from benchmarks.origin import Nginx, start_proxy
from benchmarks.paced import Pace
from benchmarks.processes import Processes
from benchmarks.product import serving
from benchmarks.rounds import Settings

RATE = 1000.0


def latency(
    processes: Processes, loaded: Loaded, upstream: Nginx, place: Path, settings: Settings
) -> Finding:
    """The same GET, paced."""
    finding = Finding(
        "latency", f"Latency at {RATE:,.0f} calls/s (constant rate, timed from when a call was due)"
    )
    proxy = start_proxy(processes, place, upstream.port)
    with serving(processes, loaded) as product:
        product.pin(settings.subject_cores, settings.other_cores)
        keys = loaded.keys[API][:1000]
        ways = {
            "direct": Pace(upstream.port, [_request("/v1/models", key) for key in keys]),
            "nginx proxy_pass": Pace(proxy.port, [_request("/v1/models", key) for key in keys]),
            "valetkey gateway": Pace(product.gateway, [_request(f"/{API}/v1/models", key) for key in keys]),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(settings.rounds):
            for name, pace in ways.items():
                taken[name] += pace.run(RATE, settings.seconds)
    processes.end(proxy.process)
    for values in taken.values():
        values.sort()
    finding.curves = taken
    direct, ours = taken["direct"], taken["valetkey gateway"]
    finding.ratios.append(
        Ratio("p99 added by the gateway", at(ours, 0.99) - at(direct, 0.99), 2, True, " ms")
    )
    for name, values in taken.items():
        quantiles = ", ".join(
            f"{label} {figure(at(values, share))}"
            for label, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
        )
        finding.lines.append(f"{name}: {quantiles} ms over {len(values):,} calls")
    added = ", ".join(
        f"{label} {figure(at(ours, share) - at(direct, share))}"
        for label, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    )
    finding.lines.append(f"added by the gateway to the direct call: {added} ms")
    return finding


def _request(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
