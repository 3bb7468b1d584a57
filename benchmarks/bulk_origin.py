"""An upstream that sends a gigabyte to whoever asks, and takes one from whoever brings it. A process."""

from __future__ import annotations

import asyncio
import sys

import uvloop

SIZE = 1_000_000_000
_PIECE = bytes(262_144)


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                left = SIZE
                while left:
                    piece = _PIECE[:left]
                    writer.write(piece)
                    left -= len(piece)
                    await writer.drain()
                continue
            left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            taken = 0
            while taken < left:
                piece = await reader.read(min(262_144, left - taken))
                if not piece:
                    return
                taken += len(piece)
            said = b"%d" % taken
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_serve_one, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
