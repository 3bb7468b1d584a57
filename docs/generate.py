"""Writes the pages that are made from the code: docs/reference/*.md; with --picture also docs/pictures/demo.svg.

``python docs/generate.py`` writes, ``--check`` says what is stale and ends with 1, ``--picture`` runs the demo once
and draws what it said. A test holds the pages to the code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

NOTICE = "<!-- Made from the code by docs/generate.py. Change the code, then run it again. -->"


def page(title: str, said: str, *parts: str) -> str:
    """One page: a title, one paragraph, its parts."""
    return "\n\n".join((NOTICE, f"# {title}", said, *(part for part in parts if part))) + "\n"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def code(value: object) -> str:
    return f"`{value}`" if value not in (None, "", ()) else ""


def prose(text: str | None) -> str:
    """A docstring as Markdown: its literals in single marks, one paragraph."""
    return " ".join((text or "").replace("``", "`").split())


# -- pages ------------------------------------------------------------------------------------------------


def commands() -> str:
    import click

    from valetkey.cli.main import root

    def walk(
        command: click.Command, context: click.Context
    ) -> Iterator[tuple[str, click.Command, click.Context]]:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                if child is not None:
                    yield from walk(child, click.Context(child, info_name=name, parent=context))
        else:
            yield context.command_path, command, context

    def described(command: click.Command, context: click.Context) -> str:
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        said = command.help or ""
        rows = []
        for parameter in command.params:
            record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
            if record is not None:
                rows.append((code(record[0]), record[1]))
        examples = "\n".join(getattr(command, "examples", ()))
        parts = [f"## {context.command_path}", "\n\n".join(prose(part) for part in said.split("\n\n"))]
        parts += [f"    {usage}", table(("option", "meaning"), rows) if rows else ""]
        parts += [
            "Examples:\n\n" + "\n".join(f"    {line}" for line in examples.splitlines()) if examples else ""
        ]
        return "\n\n".join(part for part in parts if part)

    sections = [
        described(command, context)
        for _, command, context in walk(root, click.Context(root, info_name="valetkey"))
    ]
    exits = (
        "Exit codes: 0 done; 1 refused or failed, also where a file or what comes in cannot be used, or where "
        "`doctor`, `audit verify` or `audit proof --check` found something; 2 wrong usage: the command line itself, or "
        "a `VALETKEY_…` variable, cannot be meant so, and nothing was done; 3 no server; 4 not permitted; 130 "
        "interrupted."
    )
    return page(
        "Commands",
        "All commands and options. `--json` answers one object on standard output and nothing else there; hints and "
        f"warnings go to standard error. {exits}",
        *sections,
    )


def codes() -> str:
    from valetkey.api.document import _STATUS_OF_CODE
    from valetkey.api.problems import TITLES
    from valetkey.decision.codes import CODES, Code

    rows = [
        (
            f'<a id="{item.lower()}"></a>`{item}`',
            CODES[item].status,
            CODES[item].sentence,
            CODES[item].next_step,
            "yes" if CODES[item].waiting_helps else "no",
        )
        for item in Code
    ]
    # The API's own, where they are no decision about a call.
    errors = [
        (f'<a id="{code.lower()}"></a>`{code}`', status, f"{TITLES[code]}.")
        for code, status in _STATUS_OF_CODE.items()
        if code not in CODES
    ]
    return page(
        "Decision codes",
        "Every call gets one code. The order is the order of the checks: the first check that fails names the code. "
        "A refusal is `application/problem+json` (RFC 9457) with the code in the body and in the header "
        "`x-valetkey-code`. Where waiting does not help, the answer carries `x-should-retry: false`, so that clients "
        "do not send the call again. `POST /v1/verify` always answers 200 and carries the code in its body.",
        table(("code", "status", "what happened", "what to do", "does waiting help?"), rows),
        "## Errors of the API\n\nManagement at `/api/v1`, and `POST /v1/derive` at the gateway once the call itself is "
        "allowed, answer errors in the same form. `detail` and `next_step` say what is wrong with this request; at "
        "the gateway `call` is the id of the call, and the header and `error` are there too.",
        table(("code", "status", "what happened"), errors),
    )


def settings() -> str:
    import msgspec

    from valetkey.cli.commands.server import HELP
    from valetkey.server.settings import _FROM_ENVIRONMENT
    from valetkey.settings import Settings

    variable = {field: name for name, field in _FROM_ENVIRONMENT.items()}
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(Settings):
        bounds = _bounds(hints[field.name])
        rows.append(
            (
                code(field.name),
                code(f"--{field.name.replace('_', '-')}"),
                code(variable.get(field.name)),
                code(_toml(field.default)),
                f"{HELP[field.name]} {bounds}",
            )
        )
    return page(
        "Settings of the server",
        "A setting stands in `config.toml` in the data folder, in the environment or as a flag of `valetkey serve`; a "
        "flag wins over the environment, the environment over the file. A setting that is not known is an error.",
        table(("setting", "flag", "environment", "default", "meaning"), rows),
        "`VALETKEY_HOME` names the data folder (`~/.local/share/valetkey`). Commands also read `VALETKEY_URL` and "
        "`VALETKEY_TOKEN_FILE`: the address of a server elsewhere, and the file that holds a token for it.",
    )


def _bounds(hint: Any) -> str:
    said = []
    for meta in getattr(hint, "__metadata__", ()):
        if meta.ge is not None and meta.le is not None:
            said.append(f"From {meta.ge:,} to {meta.le:,}.")
        elif meta.gt is not None:
            said.append(f"More than {meta.gt}.")
    return " ".join(said)


def _toml(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return "[]" if value == () else f'"{value}"' if isinstance(value, str) else str(value)


def presets() -> str:
    from valetkey.services.catalogue import load_preset, preset_names

    return page(
        "Presets",
        "What is known beforehand of well-known APIs: `valetkey service add NAME --preset PRESET`. No wildcard "
        "opens an endpoint that carries calls inside calls or answers with credentials; only naming it does.",
        *(_preset(load_preset(name)) for name in preset_names()),
    )


def _preset(preset: Any) -> str:
    variables = ", ".join(code(name) for name in (*preset.environment.key, *preset.environment.base_url))
    facts = [
        ("hosts", ", ".join(f"{label} {code(origin)}" for label, origin in preset.hosts.items())),
        ("the real key is put in as", _placement(preset.placement)),
        ("a caller may send a valet key as", ", ".join(_placement(way) for way in preset.accepts)),
        ("its keys look like", preset.shape.text),
        ("its packages read", variables),
        ("base URL at the gateway", code(preset.environment.base_url_value)),
        ("largest body", f"{preset.ceiling:,} bytes"),
        ("changing its key", f"{preset.rotation.text} <{preset.rotation.url}>"),
    ]
    named = [
        (code(name), ", ".join(map(code, end.patterns)), end.text) for name, end in preset.endpoints.items()
    ]
    closed = [(", ".join(map(code, one.patterns)), one.opens) for one in (*preset.wide, *preset.credentials)]
    return "\n\n".join(
        (
            f"## {preset.name}: {preset.title}",
            table(("fact", "value"), facts),
            "Names for `--endpoint` and `--deny-endpoint`:",
            table(("name", "patterns", "what it is"), named),
            *(
                ("Opened only by name:", table(("patterns", "what naming it opens"), closed))
                if closed
                else ()
            ),
        )
    )


def _placement(way: Any) -> str:
    kind = type(way).__name__
    name = getattr(way, "name", None)
    if kind == "Bearer":
        return code(f"Authorization: {way.scheme} KEY")
    if kind == "Basic":
        return f"`Authorization: Basic`, the key as the {way.key_is}"
    return code(f"?{name}=KEY") if kind == "Query" else code(f"{name}: KEY")


def defaults() -> str:
    import msgspec

    from valetkey.keys.kinds import KindDefaults, defaults_by_kind

    rows = []
    for field in msgspec.structs.fields(KindDefaults):
        values = [getattr(one, field.name) for one in defaults_by_kind().values()]
        shown = [code(", ".join(value) if isinstance(value, tuple) else value) for value in values]
        rows.append((code(field.name), *shown))
    return page(
        "Defaults by kind",
        "What a new key gets where its issuer says nothing. A flag that is given replaces that default only. A "
        "public key must carry an origin, a network or an endpoint; a temporary one must end.",
        table(("term", *(kind.value for kind in defaults_by_kind())), rows),
        "`address_rate` and `address_burst` count each client address on its own (for IPv6 each /64). `review` is the "
        "time after which somebody should look whether the key is still needed; the key goes on working.",
    )


def audit_actions() -> str:
    from valetkey.journal.actions import AuditAction

    rows = [(code(action.value), action.subject, action.verb) for action in AuditAction]
    return page(
        "Audit actions",
        "Every management action leaves a record with one of these names, `subject:verb`. `valetkey audit list` shows "
        "them. Names are only ever added; some are kept for actions that this version does not have.",
        table(("action", "what it was done to", "what was done"), rows),
    )


def doctor() -> str:
    from valetkey.doctor.findings import ABOUT, Area, Kind

    parts = []
    for area in Area:
        rows = [
            (code(kind), ABOUT[kind].severity, ABOUT[kind].meaning)
            for kind in Kind
            if ABOUT[kind].area is area
        ]
        parts += [f"## {area.value.capitalize()}", table(("finding", "severity", "what is weak"), rows)]
    return page(
        "Findings of the doctor",
        "What `valetkey doctor` can find. `info` is good to know; `weak` makes an accident or an attack easier; "
        "`serious` breaks a promise or stops the next start. With `--json` the answer is one object: `severity` (the "
        "worst), `items` (each with `id`, `severity`, `area`, `sentence`, `mend`, `subjects`, `count`), `server`, "
        "`looked_at` and `not_seen`. The exit code is 1 when anything is weak or serious. Names are only ever added.",
        *parts,
    )


def api() -> str:
    import msgspec

    from valetkey.api.document import describe

    document = msgspec.json.decode(describe())
    rows = []
    for path, item in sorted(document["paths"].items()):
        for method, operation in item.items():
            asked = ", ".join(
                code(one["name"]) for one in operation.get("parameters", ()) if one["in"] != "path"
            )
            body = (
                operation.get("requestBody", {})
                .get("content", {})
                .get("application/json", {})
                .get("schema", {})
            )
            sent = next((one["$ref"].rpartition("/")[2] for one in _branches(body) if "$ref" in one), "")
            good = next(status for status in operation["responses"] if status.startswith("2"))
            said = f"{operation['summary']}. {operation['description']}"
            rows.append(
                (
                    code(f"{method.upper()} {path}"),
                    code(operation["operationId"]),
                    said,
                    asked,
                    code(sent),
                    good,
                )
            )
    problems = [(code(name), one["description"]) for name, one in document["components"]["responses"].items()]
    return page(
        "HTTP API",
        "The control API listens on port 8200. The whole description (OpenAPI 3.1) is at `/api/v1/openapi.json`. "
        "Send a token as `Authorization: Bearer vk_api_…`. Errors are `application/problem+json` with `code`, "
        '`detail` and `next_step`. Lists answer `{"items": […], "next": …}`; give `next` back as `cursor`. A request '
        "with an `Idempotency-Key` can be sent again without a second effect.",
        "## Operations",
        table(("request", "operation", "what it does", "parameters", "body", "status"), rows),
        "## Errors",
        table(("code", "meaning"), problems),
    )


def _branches(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for name in ("allOf", "oneOf", "anyOf"):
        for inner in schema.get(name, ()):
            yield from _branches(inner)


def http() -> str:
    from valetkey.wire import bounds, http2_floods, http2_frames, listener, request

    shared = [
        (
            "the head of a request",
            f"{bounds.MAX_HEAD_BYTES:,} bytes, {bounds.MAX_FIELDS} fields",
            "`TOO_LARGE`",
        ),
        ("until its head is whole", f"{bounds.HEAD_SECONDS:g} s", "the connection ends"),
        ("a connection without a call", f"{bounds.KEEPALIVE_SECONDS:g} s", "it ends"),
        ("an answer that is not taken", f"{bounds.STALL_MS / 1000:g} s", "it is reset"),
        ("a body that waits in memory", f"{request.MAX_WAITING_BYTES:,} bytes", "the caller is slowed"),
        ("an answer that waits in memory", f"{bounds.WAITING_BYTES:,} bytes", "the upstream is slowed"),
        ("connections of a worker", f"{listener.MAX_CONNECTIONS:,}", "more are reset"),
    ]
    second = [
        ("calls at once on a connection", http2_frames.MAX_STREAMS, "the connection ends"),
        (
            "calls that are taken back",
            f"{http2_floods.RESET_BURST:,}, then {http2_floods.RESETS_A_SECOND:g} a second",
            "the connection ends",
        ),
        (
            "frames that carry nothing",
            f"{http2_floods.IDLE_BURST:,}, then {http2_floods.IDLE_A_SECOND:g} a second",
            "the connection ends",
        ),
        (
            "windows opened for one frame of an answer",
            http2_floods.UPDATES_A_FRAME,
            "more count as frames that carry nothing",
        ),
        (
            "a head before it is unpacked",
            f"{http2_floods.MAX_BLOCK_BYTES:,} bytes, {http2_floods.MAX_CONTINUATIONS} continuations",
            "the connection ends",
        ),
        ("a head when it is unpacked", f"{http2_frames.MAX_UNPACKED_BYTES:,} bytes", "the connection ends"),
        ("a frame", f"{http2_floods.MAX_FRAME_BYTES:,} bytes", "the connection ends"),
    ]
    return page(
        "HTTP at the gateway port",
        "Callers speak HTTP/1.1, or HTTP/2 where TLS agrees on it (`h2`), and in plain text by prior knowledge; an "
        "offer to upgrade is passed over. A call gets the same code in both. Trailers are dropped. WebSockets and "
        "CONNECT are refused. Upstream it is HTTP/1.1. A connection that ends in HTTP/2 says why in its GOAWAY: "
        "ENHANCE_YOUR_CALM for too much of something.",
        "## In both versions",
        table(("what", "at most", "beyond it"), shared),
        "## In HTTP/2",
        table(("what", "at most", "beyond it"), second),
        "## POST /v1/derive",
        _derivation(),
    )


DERIVED = {
    "id": "of the new key",
    "key": "its value, shown this once",
    "kind": "`temporary`",
    "service": "that it opens",
    "holder": "the holder of the key that it comes from",
    "environment": "as of that key",
    "label": "as asked",
    "last4": "the last four characters of its value",
    "expires": "its end, in seconds since the epoch; null: none",
    "sentences": "what it may do, in words",
    "parent": "id of the key that it comes from",
    "holder_made": "always false here",
    "replayed": "always false here",
    "warnings": "what will surprise, in words: that it ends earlier than asked, or that the other key allows less",
}
"""What each field of the answer is; a field without its line fails."""


def _derivation() -> str:
    from valetkey.gateway.derive import MAX_BODY, NOT_REPEATED
    from valetkey.keys.derivation import Derivation
    from valetkey.keys.drafting import Terms
    from valetkey.keys.making import IssuedKey

    asked = {
        "label": "a text of your own; left out: none",
        "expires": "a span, a day or an RFC 3339 time, never later than the key that it comes from; left out: as for "
        "temporary keys",
        "terms": "an object of "
        + ", ".join(code(name) for name in Terms.__struct_fields__ if name != "clear")
        + ", each as the flag of its name takes it ([restrictions and limits](restrictions-and-limits.md)); left "
        "out: as for temporary keys",
    }
    return "\n\n".join(
        (
            "Makes a temporary key from the one that the call carries, as for an agent "
            f"([how](../how-to/derive-a-key.md)). The body is a JSON object of at most {MAX_BODY:,} bytes, or nothing:",
            table(
                ("field", "what it says"),
                [(code(name), asked[name]) for name in Derivation.__struct_fields__],
            ),
            "The answer is 201 with:",
            table(
                ("field", "what it is"), [(code(name), DERIVED[name]) for name in IssuedKey.__struct_fields__]
            ),
            "A key that may not call here may not derive: it gets the [code](codes.md) that a call would get. Then the "
            "[errors of the API](codes.md#errors-of-the-api): `INVALID` for a body that is wrong, `CONFLICT` for a key "
            "that has too many below it or is two deep. All carry `code`, `detail`, `next_step`, `call`, `error`, and "
            f"the header `x-valetkey-code`. `Idempotency-Key` is answered 400 {code(NOT_REPEATED.code)}: what is sent "
            "twice makes two keys.",
        )
    )


def terms() -> str:
    from grammar_examples import grammar

    return grammar(page, table, code, prose)


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "codes.md": codes,
    "settings.md": settings,
    "presets.md": presets,
    "defaults.md": defaults,
    "audit-actions.md": audit_actions,
    "api.md": api,
    "doctor.md": doctor,
    "restrictions-and-limits.md": terms,
    "http.md": http,
}


def stale() -> list[str]:
    """Names of pages that do not say what the code says."""
    found = []
    for name, make in PAGES.items():
        path = DOCS / "reference" / name
        if not path.exists() or path.read_text("utf-8") != make():
            found.append(name)
    return found


def main() -> int:
    """Write, check or draw; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="say what is stale; write nothing")
    parser.add_argument("--picture", action="store_true", help="run the demo and draw it")
    asked = parser.parse_args()
    if asked.check:
        for name in (found := stale()):
            print(f"docs/reference/{name} is stale. Run: python docs/generate.py")
        return 1 if found else 0
    if asked.picture:
        from demo_picture import draw

        (DOCS / "pictures" / "demo.svg").write_text(draw(), "utf-8")
        return 0
    (DOCS / "reference").mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (DOCS / "reference" / name).write_text(make(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
