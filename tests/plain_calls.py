"""A call as a program makes it, and what came back."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a caller got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of one header."""
        return next((value for field_, value in self.headers if field_.lower() == name.lower()), None)

    @property
    def code(self) -> str:
        """Valetkey's code; VALID where the answer is the service's."""
        return self.header("x-valetkey-code") or "VALID"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def everything(self) -> bytes:
        """Headers and body, for searching."""
        return "\n".join(f"{name}: {value}" for name, value in self.headers).encode() + b"\n" + self.body


@dataclass(frozen=True)
class ValetKey:
    """An issued key. Its value is not printed."""

    id: str
    value: str = field(repr=False)

    @property
    def bearer(self) -> dict[str, str]:
        """The header that most services take."""
        return {"Authorization": f"Bearer {self.value}"}


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    key: ValetKey | str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
) -> Answer:
    """One call on a given connection, with the key as bearer."""
    value = key.value if isinstance(key, ValetKey) else key
    sent = {} if value is None else {"Authorization": f"Bearer {value}"}
    if body is not None:
        sent["Content-Type"] = "application/json"
    connection.request(method, path, body=body, headers={**sent, **(headers or {})})
    response = connection.getresponse()
    return Answer(response.status, response.getheaders(), response.read())
