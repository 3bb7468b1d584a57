"""How much a connection in HTTP/2 may ask of us that moves no request on. Pure; time comes in.

It reads the heads of frames before the library does, so that a flood ends before it is parsed. Requests
themselves are no flood: what answers them counts those.
"""

from __future__ import annotations

IDLE_BURST = 1000
IDLE_A_SECOND = 50.0
"""Frames that carry nothing: pings, settings, priorities, empty data, unknown ones (CVE-2019-9512, -9513, -9515,
-9518). Envoy stops at 1,000 answers to such frames that wait, Go at 10,000."""
RESET_BURST = 1000
RESETS_A_SECOND = 33.0
"""Requests that are taken back, by the caller or by an error it made: rapid reset (CVE-2023-44487) and MadeYouReset
(CVE-2025-8671). The figures are those of nghttp2 since 1.57."""
UPDATES_A_FRAME = 20
UPDATES_A_REQUEST = 2
"""Windows may be opened so often for what we sent and were asked; more counts as idle. The figures are Envoy's."""
MAX_UPDATES_AHEAD = 10_000
FRAMES_A_TURN = 50
"""Frames of one connection that are read before the others have their turn: some 2 ms."""
MAX_CONTINUATIONS = 16
MAX_BLOCK_BYTES = 65_536
"""Of one head, before it is unpacked: twice what it may have afterwards (CONTINUATION flood, CVE-2024-27316)."""
MAX_FRAME_BYTES = 16_384
"""The smallest that may be asked for (RFC 9113, section 6.5.2); also how much of one answer goes out before the
others have their turn."""
MAX_SETTINGS_BYTES = 6 * 32
"""Of one frame; thirteen settings are registered."""
COST_OF_A_LARGE_HEAD = 50
"""A head that is refused for its size has been unpacked all the same."""
WORTH_WHILE = 1024
"""A frame of ours that a window cut shorter earns no opening of windows (CVE-2019-9511)."""

_FRAME_HEAD = 9
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 8, 9
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4


class Flood(Exception):
    """More than a caller may need. Says of what."""


class Allowance:
    """So much at once, and so much a second."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, burst: int, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = float(burst)
        self._since = now

    def earn(self) -> None:
        """One more, up to the burst."""
        self._left = min(self._burst, self._left + 1)

    def spend(self, count: int, now: float) -> bool:
        """Whether there was so much left."""
        self._left = min(self._burst, self._left + (now - self._since) * self._rate) - count
        self._since = now
        return self._left >= 0


class FrameMeter:
    """Counts the frames of one connection. Times are seconds of any one clock."""

    __slots__ = ("_block", "_continuations", "_head", "_idle", "_resets", "_skip", "_updates", "block_since")

    def __init__(self, now: float) -> None:
        self._idle = Allowance(IDLE_BURST, IDLE_A_SECOND, now)
        self._resets = Allowance(RESET_BURST, RESETS_A_SECOND, now)
        self._updates = UPDATES_A_FRAME
        self._head = b""
        self._skip = 0
        self._block = 0
        self._continuations = 0
        self.block_since: float | None = None
        """When the head began that has not ended yet."""

    def take(self, octets: bytes, now: float, most: int = FRAMES_A_TURN) -> int:
        """Go over what came, `most` frames of it; how many octets that were. Raises `Flood`."""
        at, size = 0, len(octets)
        while at < size:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                at += step
                continue
            if not most:
                break
            head = self._head + octets[at : at + _FRAME_HEAD - len(self._head)]
            at += len(head) - len(self._head)
            if len(head) < _FRAME_HEAD:
                self._head = head
                break
            most -= 1
            self._head = b""
            self._skip = int.from_bytes(head[:3], "big")
            self._meet(head[3], head[4], self._skip, now)
        return at

    def _meet(self, kind: int, flags: int, length: int, now: float) -> None:
        if length > MAX_FRAME_BYTES:
            raise Flood("a frame longer than agreed")
        if kind == _DATA:
            if not length and not flags & _END_STREAM:
                self.idle(1, now)
        elif kind == _HEADERS:
            self._updates = min(MAX_UPDATES_AHEAD, self._updates + UPDATES_A_REQUEST)
            self._idle.earn()  # some set a priority for each
            self._block, self._continuations = length, 0
            self.block_since = None if flags & _END_HEADERS else now
        elif kind == _CONTINUATION:
            self._block += length
            self._continuations += 1
            if self._block > MAX_BLOCK_BYTES or self._continuations > MAX_CONTINUATIONS:
                raise Flood("a head that goes on and on")
            if flags & _END_HEADERS:
                self.block_since = None
        elif kind == _RST_STREAM:
            self.reset(now)
        elif kind == _WINDOW_UPDATE and self._updates:
            self._updates -= 1
        else:
            if kind == _SETTINGS and length > MAX_SETTINGS_BYTES:
                raise Flood("more settings than there are")
            if not (kind == _SETTINGS and flags & _ACK):
                self.idle(1, now)

    def idle(self, count: int, now: float) -> None:
        """`count` frames came that moved nothing on. Raises `Flood`."""
        if not self._idle.spend(count, now):
            raise Flood("frames that carry nothing")

    def reset(self, now: float) -> None:
        """A request was taken back. Raises `Flood`."""
        if not self._resets.spend(1, now):
            raise Flood("requests that are taken back")

    def sent(self, size: int, *, cut_short: bool) -> None:
        """A frame of an answer went out; `cut_short`: the caller's window let no more through."""
        if size >= WORTH_WHILE or not cut_short:
            self._updates = min(MAX_UPDATES_AHEAD, self._updates + UPDATES_A_FRAME)
