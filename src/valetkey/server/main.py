"""`serve` and `init`: from the command line to a running process tree."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from valetkey import log
from valetkey.errors import Conflict, Invalid
from valetkey.server.hardening import harden
from valetkey.server.home import Home
from valetkey.server.opening import open_home
from valetkey.server.settings import load_settings
from valetkey.server.supervisor import Supervisor
from valetkey.server.tls import say, watched_pair
from valetkey.settings import Settings
from valetkey.store.failures import StoreError
from valetkey.store.place import read_url
from valetkey.variables import about_unknown, unknown_variables


def init(home: Home) -> None:
    """Make a home without serving. Raises `ValetkeyError`."""
    settings = load_settings(home, check=_check_database)
    harden()
    os.umask(0o077)
    home.prepare()
    lock = home.lock()
    try:
        open_home(home, settings).store.close()
    finally:
        os.close(lock)


def serve(
    home: Home, flags: Mapping[str, Any], ready: Callable[[Home, Settings], None] | None = None
) -> None:
    """Serve until SIGTERM or an interrupt. Raises `ValetkeyError` when the server cannot start."""
    os.umask(0o077)
    settings = load_settings(home, flags=flags)
    log.configure("supervisor", style=settings.log_format, level=settings.log_level)
    # Only now: what is refused from here on is said in the chosen form.
    load_settings(home, flags=flags, check=_check_together)
    for name in unknown_variables(os.environ):
        log.warning("variable_unknown", about_unknown(name))
    _check_plain(settings)
    _check_certificate(settings)
    # Before anything is made: a start that must fail leaves nothing behind.
    for port in (settings.control_port, settings.gateway_port):
        _check_port(settings.listen, port)
    home.prepare()
    harden()
    lock = home.lock()
    if settings.tls_dev:
        settings = _make_certificate(home, settings)
    asyncio.run(_serve(home, settings, ready or _announce))
    os.close(lock)


async def _serve(home: Home, settings: Settings, ready: Callable[[Home, Settings], None]) -> None:
    supervisor = Supervisor(home, settings)
    await supervisor.start()
    ready(home, settings)
    await supervisor.wait()


def _announce(home: Home, settings: Settings) -> None:
    at = f"[{settings.listen}]" if ":" in settings.listen else settings.listen
    gateway, control = (
        f"{settings.scheme}://{at}:{port}" for port in (settings.gateway_port, settings.control_port)
    )
    log.current().announce(
        "serving",
        (
            f"valetkey serves {gateway} (gateway)",
            f"                {control} (control)",
            f"                {home.folder} (data)",
        ),
        gateway=gateway,
        control=control,
        data=str(home.folder),
    )


def _check_database(settings: Settings) -> None:
    """Before anything is made, and as what it is: a setting that cannot be meant so."""
    if settings.database_url is None:
        return
    try:
        read_url(settings.database_url)
    except StoreError as error:
        raise Invalid(error.sentence, error.next_step, field="database_url") from None


def _check_together(settings: Settings) -> None:
    if settings.control_port == settings.gateway_port:
        raise Invalid(
            f"Both ports are {settings.control_port}.",
            "Give the gateway and the control API a port each.",
            field="gateway_port",
        )
    _check_database(settings)


def _check_plain(settings: Settings) -> None:
    loopback = settings.listen in ("::1",) or settings.listen.startswith("127.")
    if not loopback and not settings.allow_plain and not settings.tls:
        raise Invalid(
            f"Serving plain HTTP on {settings.listen} would send keys in the clear.",
            "Give --tls-cert and --tls-key, or put a TLS proxy in front and say --allow-plain, "
            "or listen on 127.0.0.1.",
            field="listen",
        )


def _make_certificate(home: Home, settings: Settings) -> Settings:
    from valetkey.server.development import DevelopmentPair

    pair = DevelopmentPair(home.folder)
    any_address = settings.listen in ("0.0.0.0", "::")  # noqa: S104
    pair.prepare((*settings.public_name, *(() if any_address else (settings.listen,))))
    say(f"A certificate for development is used; callers trust it with {pair.authority}.")
    return pair.settings(settings)


def _check_certificate(settings: Settings) -> None:
    """A pair that cannot be used stops the start; one that callers will refuse is said."""
    watched = watched_pair(settings)
    if watched is not None:
        watched.pair.context(())
        for warning in watched.pair.warnings(settings.public_name, time.time()):
            say(warning)


def _check_port(address: str, port: int) -> None:
    """Two servers can share a port without an error, so ask with a plain bind first."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Invalid(
                    f"Port {port} on {address} cannot be opened ({os.strerror(error.errno or 0)}).",
                    "Choose an address of this machine and a port above 1023.",
                    field="listen",
                ) from None
            raise Conflict(
                f"Port {port} on {address} is taken{_by_whom(port)}.",
                "Stop what holds it, or choose another port with --gateway-port or --control-port.",
            ) from None


def _name_of(process: str, command: str) -> str:
    with open(f"/proc/{process}/cmdline", "rb") as file:
        return "another valetkey server" if b"valetkey.server." in file.read() else command


def _by_whom(port: int) -> str:
    """`` by nginx (process 123)``, as far as /proc tells."""
    wanted = f":{port:04X}"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                for line in file:
                    fields = line.split()
                    if fields[1].endswith(wanted) and fields[3] == "0A":
                        inodes.add(f"socket:[{fields[9]}]")
        except OSError:
            continue
    for process in filter(str.isdecimal, os.listdir("/proc")):
        try:
            for descriptor in os.listdir(f"/proc/{process}/fd"):
                if os.readlink(f"/proc/{process}/fd/{descriptor}") in inodes:
                    with open(f"/proc/{process}/comm", encoding="utf-8") as file:
                        return f" by {_name_of(process, file.read().strip())} (process {process})"
        except OSError:
            continue
    return ""
