"""A file with an agreement: how it is read, and what is wrong with it in the words of the file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from valetkey.cli.failure import Failure

MAX_BYTES = 262_144
_SEE = "docs/formats/agreement.md"


def read_agreement(file: str) -> dict[str, Any]:
    """The fields, as the API takes them. Raises `Failure`."""
    path = Path(file).expanduser()
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise Failure(
            f"{file} cannot be read ({error.strerror}).", "Name the file with the agreement."
        ) from None
    try:
        if len(content) > MAX_BYTES:
            raise ValueError("it is too long")
        table = tomllib.loads(content.decode())
    except ValueError as error:
        raise _wrong(f"{file} is no TOML: {error}.") from None
    except RecursionError:
        raise _wrong(f"{file} is no agreement: it is nested too deeply.") from None
    try:
        # Days may stand there without quotes: the API takes them as text.
        written: dict[str, Any] = json.loads(json.dumps(table, default=str, allow_nan=False))
    except ValueError:
        raise _wrong(f"{file} is no agreement: nan and inf are no value of any field.") from None
    except RecursionError:
        raise _wrong(f"{file} is no agreement: it is nested too deeply.") from None
    return written


def in_words_of_the_file(file: str, written: dict[str, Any], refused: Failure) -> Failure:
    """What the server refused, said of the file where its form is at fault."""
    if refused.code != "INVALID":
        return refused
    # Not before: what the server takes is the server's to say.
    from valetkey.agreements.agreement import Agreement

    for sentence, next_step in _faults(written, Agreement, ""):
        return Failure(f"{file}: {sentence}", f"{next_step} See {_SEE}.", refused.exit_code, refused.code)
    return refused


def _faults(table: dict[str, Any], struct: Any, before: str) -> Iterator[tuple[str, str]]:
    from valetkey.nearest import did_you_mean

    hints = get_type_hints(struct)
    for name in table.keys() - hints.keys():
        shown = name if name.isprintable() and len(name) <= 40 else "a name"
        guess = did_you_mean(name, hints) or f"There are: {', '.join(hints)}."
        yield f"the field {before}{shown} is not known.", guess
    for name in struct.__struct_fields__[: len(hints) - len(struct.__struct_defaults__)]:
        if name not in table:
            example = "Write a [[services]] for each service." if name == "services" else f"Add {name}."
            yield f"the field {before}{name} is missing.", _EXAMPLES.get(before + name, example)
    for name, value in table.items():
        if name in hints:
            yield from _wrong_values(value, hints[name], f"{before}{name}")


_EXAMPLES = {"ends": "Add the last day: ends = 2027-12-31.", "services.name": 'Add it: name = "openai".'}


def _wrong_values(value: Any, kind: Any, field: str) -> Iterator[tuple[str, str]]:
    name = field.rpartition(".")[2]
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if inner is not str:
            if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
                yield f"the field {field} is no list of tables.", f"Write a [[{field}]] for each."
                return
            for one in value:
                yield from _faults(one, inner, f"{field}.")
        elif not isinstance(value, list):
            yield f"the field {field} is no list.", f"Write a list: {name} = [{json.dumps(value)}]."
        elif not all(isinstance(one, str) for one in value):
            yield f"the field {field} holds something that is no text.", "Put each entry in quotes."
    elif hasattr(kind, "__struct_fields__"):
        if isinstance(value, dict):
            yield from _faults(value, kind, f"{field}.")
        else:
            yield f"the field {field} is no table.", f"Write a table: [{field}]."
    elif kind is str or str in get_args(kind):
        if not isinstance(value, str):
            shown = (
                f"{name} = {json.dumps(str(value))}" if isinstance(value, int | float) else f'{name} = "…"'
            )
            yield f"the field {field} is no text.", f"Write it in quotes: {shown}."
    elif not isinstance(value, int) or isinstance(value, bool):
        yield f"the field {field} is no whole number.", f"Write it without quotes: {name} = 5."


def _wrong(sentence: str) -> Failure:
    return Failure(sentence, f"See {_SEE} for one that is.")
