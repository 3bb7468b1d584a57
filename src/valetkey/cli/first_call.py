"""Ready commands for a first call with a new key. The key is read in unseen: never in a history or a process list."""

from __future__ import annotations

import shlex
from typing import Any

from valetkey.cli.client import Client, segment
from valetkey.cli.failure import Failure

KEY_VARIABLE = "VALETKEY_KEY"


def first_call(client: Client, service_name: str, key_id: str) -> list[str]:
    """Commands for a shell, or nothing where the server does not tell enough: the key was issued all the same."""
    try:
        service = client.get(f"/services/{segment(service_name)}")
        status = client.get("/status")
        port = int(status["gateway_port"])
    except (Failure, KeyError, TypeError, ValueError):
        return []
    gateway = f"http://{client.gateway_host}:{port}"
    if status.get("tls"):
        # The certificate is for the name that callers use.
        gateway = f"https://{status.get('public_name') or client.gateway_host}:{port}"
    origin = _origin(client, key_id)
    if service.get("kind") == "own":
        return [
            f"valetkey service credential {service_name}",
            f"# then your service asks: POST {gateway}/v1/verify",
        ]
    known = _preset(service)
    if known is None:
        return _curl(service, f"{gateway}/{service_name}/", KEY_VARIABLE, origin)
    url = known.url(gateway, service_name)
    key = known.key[0]
    commands = [f"export {name}={shlex.quote(url)}" for name in known.base_url]
    commands.append(_read(key))
    if known.base_url:
        return [*commands, *_needs(origin)]
    return [*commands, f"# base URL: {url}", *_curl(service, f"{gateway}/{service_name}/", key, origin)[1:]]


def _origin(client: Client, key_id: str | None) -> str | None:
    """One that the key lets in, where it lets in only pages of some: its own, else those of what it comes from."""
    try:
        while key_id is not None:
            key = client.get(f"/keys/{segment(key_id)}")
            for restriction in key["policy"]["restrictions"]:
                if restriction["type"] == "origins":
                    return str(restriction["allow"][0]).replace("//*.", "//www.")
            key_id = key["parent"]
    except (Failure, KeyError, TypeError):  # who issues may not be one who sees
        pass
    return None


def _needs(origin: str | None) -> list[str]:
    return [] if origin is None else [f"# each call must carry the header Origin: {origin}"]


def _preset(service: dict[str, Any]) -> Any:
    """What the catalogue says of the vendor's environment variables, None where it knows nothing."""
    name = service.get("preset")
    if not name:
        return None
    from valetkey.services.catalogue import UnknownPreset, load_preset

    try:
        return load_preset(name).environment
    except UnknownPreset:  # the server knows more than this command line
        return None


def _read(variable: str) -> str:
    return f"read -rs {variable} && export {variable}   # paste the key; nothing is shown"


def _curl(service: dict[str, Any], url: str, variable: str, origin: str | None) -> list[str]:
    """A call with curl, which reads the key from a pipe: arguments are seen by every user of the machine."""
    way, _, name = (service.get("auth") or "").partition(":")
    pipe = None
    if way == "bearer":
        pipe = ("Authorization: Bearer %s", f"-H @- {shlex.quote(url)}")
    elif way == "basic":
        pipe = ('user = "%s:"', f"-K - {shlex.quote(url)}")
    elif way == "header" and name not in ("", "NAME"):
        pipe = (f"{name}: %s", f"-H @- {shlex.quote(url)}")
    elif way == "query" and name not in ("", "NAME"):
        pipe = (f'url = "{url}?{name}=%s"', "-K -")
    if pipe is None:
        return [_read(variable), f"# base URL: {url}", *_needs(origin)]
    text, arguments = pipe
    if origin is not None:
        arguments = f"-H {shlex.quote(f'Origin: {origin}')} {arguments}"
    return [_read(variable), f"""printf {shlex.quote(text)} "${variable}" | curl -sS {arguments}"""]
