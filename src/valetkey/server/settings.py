"""Settings of the server: `$VALETKEY_HOME/config.toml`, each also a flag of `serve`. Unknown ones are errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from valetkey.errors import Invalid, WrongUsage
from valetkey.nearest import did_you_mean
from valetkey.server.home import Home
from valetkey.settings import Settings, is_url

_FROM_ENVIRONMENT = {
    "VALETKEY_CONTROL_PORT": "control_port",
    "VALETKEY_GATEWAY_PORT": "gateway_port",
    "VALETKEY_DATABASE_URL": "database_url",
    "VALETKEY_ROOT_KEY_FILE": "root_key_file",
}


def anything(_settings: Settings) -> None:
    """Nothing more is asked of settings."""


def load_settings(
    home: Home,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
    check: Callable[[Settings], None] = anything,
) -> Settings:
    """Flags over environment over file over defaults; `check` raises `Invalid` for what more is asked of them.

    Raises `Invalid` naming the setting at fault: `WrongUsage` where the file alone could be used.
    """
    try:
        return _load(home, environment, flags or {}, check)
    except Invalid as error:
        # Where the file is at fault, this says so.
        _load(home, {}, {}, check)
        raise WrongUsage(error.sentence, error.next_step, field=error.field) from None


def _load(
    home: Home, environment: Mapping[str, str], flags: Mapping[str, Any], check: Callable[[Settings], None]
) -> Settings:
    values: dict[str, Any] = {}
    if home.config.exists():
        try:
            values = msgspec.toml.decode(home.config.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"{home.config} is not valid TOML: {error}.", "Correct the file.") from None
    for name, field in _FROM_ENVIRONMENT.items():
        text = environment.get(name)
        if text:
            values[field] = int(text) if field.endswith("_port") and text.isdecimal() else text
    values.update(
        {
            name: value
            for name, value in flags.items()
            if value is not None and value is not False and value != ()
        }
    )
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if unknown:
        raise Invalid(
            f"There is no setting {unknown[0]}. {did_you_mean(unknown[0], Settings.__struct_fields__)}".rstrip(),
            f"Correct {home.config}; see docs/reference/settings.md.",
        )
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"A setting cannot be used: {error}.",
            f"Correct it in {home.config}, the environment or the flags of serve.",
        ) from None
    for place in settings.witness:
        if not is_url(place) and Path(place).resolve().is_relative_to(home.folder.resolve()):
            raise Invalid(
                f"The witness {place} lies in the data folder: who changes the journal can change it too.",
                "Name a file on another disk, or a URL of another machine.",
            )
    check(settings)
    return settings


def settings_to_flags(settings: Settings) -> str:
    """All settings as one argument for a child process. They hold no secret."""
    return msgspec.json.encode(settings).decode()


def settings_from_flags(text: str) -> Settings:
    """The inverse of `settings_to_flags`."""
    return msgspec.json.decode(text, type=Settings)
