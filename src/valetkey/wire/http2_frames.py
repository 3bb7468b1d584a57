"""HTTP/2's frames and states, kept by the library h2; here is what we ask of it otherwise than it does by itself.

h2 answers a malformed field with the end of the connection, which others may be using: it is given none to look
at, and `http2_head` judges them, so that a malformed request is told so, like in HTTP/1.1.
"""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, RequestReceived, TrailersReceived
from h2.settings import SettingCodes, Settings
from hpack import Decoder

from valetkey.wire.bounds import MAX_FIELDS, MAX_HEAD_BYTES
from valetkey.wire.http2_floods import MAX_FRAME_BYTES
from valetkey.wire.request import MAX_WAITING_BYTES, HeaderPairs

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What every connection begins with (RFC 9113, section 3.4)."""
MAX_STREAMS = 100
"""Requests that may be open at once: the least that should be allowed (RFC 9113, section 6.5.2), and what clients
begin with before they are told."""
MAX_UNPACKED_BYTES = 65_536
"""Of a head. What is larger than it may be, but not larger than this, is told so; beyond it the connection ends
(HPACK bomb, CVE-2016-6581)."""
MAX_TABLE_BYTES = 4096
"""Of names and values that we remember for a caller's sake, however much it offers."""
CONNECTION_WINDOW = 64 * 1024 * 1024
"""More than all requests together may keep waiting, so that one that is not read holds up no other."""
FIELD_OVERHEAD = 32
"""What a field counts beside its octets (RFC 9113, section 6.5.2); in HTTP/1.1 it takes four."""


class _Fields(Decoder):
    """Unpacks heads, and hides what they hold from h2."""

    def decode(self, data: bytes, raw: bool = False) -> Any:
        # h2 sets it to what callers are told.
        self.max_header_list_size = MAX_UNPACKED_BYTES
        return [(b"fields", super().decode(data, raw=True))]


class Frames(H2Connection):
    """The server's side of one connection."""

    # Streams whose end is remembered; 65,536 of them are some MB a connection.
    MAX_CLOSED_STREAMS = 1000

    def __init__(self) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.decoder = _Fields(MAX_UNPACKED_BYTES)
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: MAX_WAITING_BYTES,
                SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES + MAX_FIELDS * (FIELD_OVERHEAD - 4),
            },
        )
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self.receive_data(PREFACE)

    def forget_settings(self) -> None:
        """Of what the caller has set, keep what may cost us nothing."""
        if self.encoder.header_table_size > MAX_TABLE_BYTES:
            self.encoder.header_table_size = MAX_TABLE_BYTES
        for code in [code for code in self.remote_settings if not isinstance(code, SettingCodes)]:
            del self.remote_settings[code]

    def release(self) -> None:
        """It is used no more."""
        self._frame_dispatch_table = {}

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[Event]]:
        # h2 sends nothing any more after it; but what is open is to be answered (RFC 9113, section 6.8).
        return [], [ConnectionTerminated()]


def fields_of(event: RequestReceived | TrailersReceived) -> HeaderPairs:
    """The fields as they came."""
    hidden: Any = event.headers
    fields: HeaderPairs = hidden[0][1]
    return fields
