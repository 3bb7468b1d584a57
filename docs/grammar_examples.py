"""The grammar of restrictions and limits, for docs/generate.py.

Each example is read by the product itself when the page is made, and stands beside the sentence that it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

EXAMPLES: dict[str, tuple[str, ...]] = {
    "networks": ("203.0.113.0/24", "203.0.113.7", "2001:db8:7::/48", "office"),
    "sticky": ("--sticky",),
    "origins": ("https://app.example.com", "https://*.example.com", "http://localhost:3000"),
    "hosts": ("api", "files"),
    "endpoints": ("GET /v1/models", "GET,POST /v1/files/**", "/v1/models/*", "POST files/v1/files", "chat"),
    "schedule": ("mon-fri 08:00-18:00 Europe/Berlin", "sat,sun 22:00-06:00 UTC"),
}
REFUSED: dict[str, tuple[str, ...]] = {
    "networks": ("203.0.113.0/33",),
    "sticky": (),
    "origins": ("https://*.com/path",),
    "hosts": ("https://api.example.com",),
    "endpoints": ("GET /v1/../admin", "FETCH /v1/models"),
    "schedule": ("mon-fri 8-18 Berlin",),
}
NOTES: dict[str, str] = {
    "networks": "A block (CIDR), an address, or a name made with `valetkey network add`: of blocks, of an "
    "interface of the server's machine, or of an address at which it is called. IPv4 addresses written as "
    "IPv6 are the same address.",
    "sticky": "A switch. `valetkey key show` says the address; `valetkey key unpin` lets the next call pin anew. "
    "What is derived from a pinned key is held to it too.",
    "origins": "Scheme, host and, where it is not the scheme's own, port. `*.` at the front stands for every name "
    "below. An origin is what an honest browser says: it keeps other sites away, not programs.",
    "hosts": "The names that the service gives its upstream hosts; `valetkey service show NAME` lists them. A caller "
    "chooses one after a colon: `/stripe:files/v1/files`. Without a colon the first is meant.",
    "endpoints": "Methods, perhaps a host, and a path. `*` is one whole segment, `**` at the end is the rest. Without "
    "a method every known one is meant; GET includes HEAD. A name of the service's catalogue stands for its patterns. "
    "`--deny-endpoint` wins over `--endpoint`. Matching is case-sensitive. No wildcard opens an endpoint that carries "
    "calls inside calls or answers with credentials.",
    "schedule": "Days, times and a zone of the time zone database; several windows are divided by semicolons. The end "
    "is not inside and may be 24:00. A window that ends before it begins goes over midnight.",
}
LIMITS: dict[str, tuple[str, ...]] = {
    "rate": ("5/s", "100/min", "1000/hour"),
    "quota": ("100/hour", "1000/day", "20000/month"),
    "bytes": ("500KB/hour", "1GB/day", "100GiB/month"),
    "budget": ("0.50/hour", "5.00/month"),
}
WRONG_LIMITS: dict[str, tuple[str, ...]] = {
    "rate": ("5", "0.5/s"),
    "quota": ("1000/week",),
    "bytes": ("1G/day",),
    "budget": ("5/year",),
}


def restriction(kind: Any, text: str) -> Any:
    """The restriction of one example. Raises `InvalidRestriction`."""
    name = kind.__struct_config__.tag
    if name == "sticky":
        return kind()
    if name == "schedule":
        return kind.parse(text)
    return kind(allow=(text,))


def limit(name: str, text: str) -> str:
    """What one example of a limit means, in words. Raises `InvalidLimit`."""
    from valetkey.decision import limits

    if name == "rate":
        rate = limits.parse_rate(text)
        return f"At most {rate.words()}, in bursts of up to {rate.burst:,}."
    if name == "quota":
        return f"At most {limits.parse_quota(text).words()}."
    if name == "bytes":
        return f"At most {limits.parse_bytes(text).words()}, sent and received."
    return f"At most {limits.parse_budget(text).words()} of cost."


def grammar(
    page: Callable[..., str],
    table: Callable[[Sequence[str], Sequence[Sequence[object]]], str],
    code: Callable[[object], str],
    prose: Callable[[str | None], str],
) -> str:
    """The whole page."""
    from valetkey.decision.limits import MAX_BYTES, MAX_CONCURRENCY, MAX_COUNT, MAX_RATE_COUNT, size_words
    from valetkey.decision.restrictions import RESTRICTIONS, InvalidRestriction

    parts = ["## Restrictions", "Checked in this order. The first that refuses names the code."]
    for kind in RESTRICTIONS:
        name = kind.__struct_config__.tag
        assert isinstance(name, str)
        options = ", ".join(code(option) for option in kind.options)
        rows = [(code(text), restriction(kind, text).sentence() + ".") for text in EXAMPLES[name]]
        for text in REFUSED[name]:
            try:
                restriction(kind, text)
            except InvalidRestriction as error:
                rows.append((code(text), f"refused: {error}"))
        parts += [
            f"### {name}",
            f"Option: {options}. Code: [`{kind.code}`](codes.md#{kind.code.lower()}). {prose(kind.__doc__)}",
            NOTES[name],
            table(("written", "means"), rows),
        ]
    parts += ["## Limits", _limits(table, code)]
    parts.append(
        f"`--burst` is the number of calls that may come in one go; without it, as many as the rate counts. "
        "`--concurrency` is the number of calls in progress at the same time, `--uses` the number in the key's whole "
        f"life. Most: {MAX_RATE_COUNT:,} for a rate and its burst, {MAX_CONCURRENCY:,} at the same time, {MAX_COUNT:,} "
        f"for quotas and uses, {size_words(MAX_BYTES)} for bytes. Bytes are those of bodies, both ways; sizes go by "
        "thousands (KB, MB, GB, TB) or by 1,024 (KiB, MiB, GiB, TiB). Hours, days and months are those of UTC. A key "
        "has at most one quota, one limit of bytes and one budget for each."
    )
    parts += [
        "## Times",
        "`--expires` takes a span from now (`30min`, `12h`, `90d`, `2w`, `1y`), a day (`2026-12-31`: its end, UTC) "
        "or an RFC 3339 time (`2026-12-31T18:00+01:00`). A time without a zone is UTC. Ends are shown in the zone of "
        "the machine that `valetkey` runs on, and say it. `key change --expires never` takes the end away.",
    ]
    return page(
        "Restrictions and limits",
        "What can be written after the options of `valetkey key issue` and `valetkey key change`. The product itself "
        "read each example when this page was made.",
        *parts,
    )


def _limits(table: Callable[..., str], code: Callable[[object], str]) -> str:
    from valetkey.decision.limits import InvalidLimit

    rows = []
    for name, texts in LIMITS.items():
        rows += [(code(f"--{name} {text}"), limit(name, text)) for text in texts]
        for text in WRONG_LIMITS[name]:
            try:
                limit(name, text)
            except InvalidLimit as error:
                rows.append((code(f"--{name} {text}"), f"refused: {error}"))
    return table(("written", "means"), rows)
