"""The door of a port that speaks TLS: it looks at a connection's first octet before anything is read.

A TLS connection begins with 0x16 (RFC 8446, section 5.1). Whatever else comes is somebody who speaks plain text and
must be told so, which a TLS library cannot do once it has read those bytes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

HANDSHAKE_SECONDS = 10.0
"""A caller has so long for its first octet, and again for its handshake."""
GOODBYE_SECONDS = 1.0
"""So long we wait for the other side's close_notify."""
MAX_UNDECIDED = 5_000
"""Connections at once that have said nothing yet or are in their handshake."""
ACCEPTED_A_TURN = 64
PAUSE_SECONDS = 0.2
"""After an accept that failed for want of descriptors or memory."""
_HANDSHAKE = b"\x16"

MakeProtocol = Callable[[], asyncio.Protocol]


class Door:
    """Accepts on a socket that is listening, and makes protocols for what comes."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        tls: ssl.SSLContext,
        secure: MakeProtocol,
        plain: MakeProtocol,
        undecided: int = MAX_UNDECIDED,
    ) -> None:
        """`secure` is for TLS connections, made when their handshake is done; `plain` for all others.

        `undecided`: how many there is room for that are neither yet, at most `MAX_UNDECIDED`.
        """
        self._undecided = min(undecided, MAX_UNDECIDED)
        self.tls = tls
        """Connections that are made from now on use this."""
        self._listening = listening
        self._secure = secure
        self._plain = plain
        self._loop = asyncio.get_running_loop()
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._entering: set[asyncio.Task[None]] = set()
        self._closed = False
        self._listen()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listening.getsockname()[1])

    def close(self) -> None:
        """Accept nothing more; whoever has not been let in yet is hung up on."""
        self._closed = True
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for end in list(self._silent):
            self._hang_up(end)
        for task in self._entering:
            task.cancel()

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_A_TURN):
            try:
                end, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._loop.call_later(PAUSE_SECONDS, self._listen)
                return
            end.setblocking(False)
            if len(self._silent) + len(self._entering) >= self._undecided and self._silent:
                # Whoever has said nothing for longest makes room.
                self._hang_up(next(iter(self._silent)))
            if len(self._silent) + len(self._entering) >= self._undecided:
                end.close()
            elif not self._look(end):
                self._silent[end] = self._loop.call_later(HANDSHAKE_SECONDS, self._hang_up, end)
                self._loop.add_reader(end, self._spoke, end)

    def _spoke(self, end: socket.socket) -> None:
        self._loop.remove_reader(end)
        self._silent.pop(end).cancel()
        self._look(end)

    def _hang_up(self, end: socket.socket) -> None:
        self._loop.remove_reader(end)
        self._silent.pop(end).cancel()
        end.close()

    def _look(self, end: socket.socket) -> bool:
        """Let it in as what its first octet says it is. False while there is none."""
        try:
            first = end.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            first = b""
        if not first:
            end.close()
            return True
        task = self._loop.create_task(self._let_in(end, first))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)
        return True

    async def _let_in(self, end: socket.socket, first: bytes) -> None:
        try:
            if first == _HANDSHAKE:
                await self._loop.connect_accepted_socket(
                    self._secure,
                    end,
                    ssl=self.tls,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=GOODBYE_SECONDS,
                )
            else:
                await self._loop.connect_accepted_socket(self._plain, end)
        except OSError:  # no TLS that we speak, no certificate they take, or gone
            end.close()
        except BaseException:
            end.close()
            raise
