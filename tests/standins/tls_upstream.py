"""An upstream that speaks TLS and keeps every octet it got, before and after they were opened."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

from certificates import Files

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class TlsUpstream:
    """Answers every call with ok."""

    def __init__(self, files: Files, *, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        """`most`: the newest version of TLS that it speaks."""
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if most < ssl.TLSVersion.TLSv1_2:
            self.tls.set_ciphers("ALL:@SECLEVEL=0")
            self.tls.minimum_version = ssl.TLSVersion.TLSv1
        self.tls.maximum_version = most
        self.use(files)
        self.raw = b""
        """All that came, as it came."""
        self.opened = b""
        """What stood in it."""
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))

    def use(self, files: Files) -> None:
        """Show this certificate from now on."""
        self.tls.load_cert_chain(files.certificate, files.key)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> TlsUpstream:
        threading.Thread(target=self._accept, name="tls-upstream", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.tls.wrap_bio(come, go, server_side=True)
        agreed = False
        with end, contextlib.suppress(OSError):
            while octets := end.recv(65_536):
                self.raw += octets
                come.write(octets)
                try:
                    if not agreed:
                        tls.do_handshake()
                        agreed = True
                    asked = tls.read(65_536)
                    self.opened += asked
                    if asked.endswith(b"\r\n\r\n"):
                        tls.write(ANSWER)
                except ssl.SSLWantReadError:
                    pass
                finally:
                    end.sendall(go.read())
