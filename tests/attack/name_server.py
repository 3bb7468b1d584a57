"""A name server whose answers change as a test says, and a way to run a server that asks it and nobody else."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections import Counter
from contextlib import suppress
from ipaddress import ip_address
from itertools import cycle
from pathlib import Path

A, AAAA = 1, 28
ADDRESS = "127.53.53.53"
"""Resolvers ask on port 53 and no other."""


class NameServer:
    """Answers by UDP (RFC 1035): of each name the next set of addresses at each look-up, over and over."""

    def __init__(self) -> None:
        self._end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._end.bind((ADDRESS, 53))
        self._names: dict[str, dict[int, cycle[list[str]]]] = {}
        self.asked: Counter[str] = Counter()
        """Look-ups by name; the two kinds of addresses of one look-up count as one."""

    def say(self, name: str, *sets: list[str]) -> None:
        """From now on `name` has the first set of addresses, at the next look-up the second, and so on."""
        self._names[name] = {
            kind: cycle([[one for one in found if (":" in one) == (kind == AAAA)] for found in sets])
            for kind in (A, AAAA)
        }
        self.asked[name] = 0

    def __enter__(self) -> NameServer:
        threading.Thread(target=self._serve, name="name-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def _serve(self) -> None:
        while True:
            try:
                question, asker = self._end.recvfrom(4096)
            except OSError:
                return
            if question:
                self._end.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while size := question[at]:
            labels.append(question[at + 1 : at + 1 + size].decode("latin-1").lower())
            at += 1 + size
        name = ".".join(labels)
        (kind,) = struct.unpack_from("!H", question, at + 1)
        known = self._names.get(name)
        self.asked[name] += kind == A
        found = next(known[kind]) if known is not None and kind in known else []
        records = b""
        for one in found:
            octets = ip_address(one).packed
            records += struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(octets)) + octets
        flags = 0x8180 if known is not None else 0x8183
        return (
            question[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0) + question[12 : at + 5] + records
        )


def asking_it(folder: Path) -> list[str]:
    """The command under which a process asks this name server alone, in a mount namespace of its own."""
    (folder / "resolv.conf").write_text(f"nameserver {ADDRESS}\noptions timeout:2 attempts:1\n")
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    binds = " && ".join(
        f"mount --bind {folder}/{name} /etc/{name}" for name in ("resolv.conf", "nsswitch.conf")
    )
    return ["unshare", "--mount", "sh", "-c", f'{binds} && exec "$@"', "sh"]


def why_not() -> str | None:
    """Why no server can be run so here, or None."""
    if os.geteuid() != 0:
        return "needs root, for port 53 and a mount namespace"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "this kernel gives no mount namespace"
