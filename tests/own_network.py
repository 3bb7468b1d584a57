"""A network of one's own for a test: its loopback interface, whose addresses may come and go (Linux namespaces).

`run_there` runs a file of ours in one, as root or, without being root, in a user namespace; nothing of the machine's
own network is touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

RTM_NEWADDR, RTM_DELADDR = 20, 21
REQUEST_AND_ACK, CREATE = 0x5, 0x400
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def run_there(file: str, *arguments: str, seconds: float = 90.0) -> Any:
    """What the file said as JSON on its last line. Fails where it fails, and where there are no namespaces."""
    command = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    done = subprocess.run(
        [*command, sys.executable, file, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def bring_up_loopback() -> None:
    """A new network has it, but switched off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def add_address(address: str, prefix: int) -> None:
    """To the loopback interface."""
    _change(RTM_NEWADDR, CREATE, address, prefix)


def remove_address(address: str, prefix: int) -> None:
    """From the loopback interface."""
    _change(RTM_DELADDR, 0, address, prefix)


def _change(kind: int, flags: int, address: str, prefix: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    octets = socket.inet_pton(family, address)
    attributes = b"".join(struct.pack("=HH", 4 + len(octets), number) + octets for number in (1, 2))
    body = struct.pack("=BBBBI", family, prefix, 0, 0, socket.if_nametoindex("lo")) + attributes
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST_AND_ACK | flags, 1, 0) + body)
        error = -struct.unpack_from("=i", kernel.recv(4096), 16)[0]
        if error:
            raise OSError(error, os.strerror(error))
