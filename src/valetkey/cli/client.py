"""Speaks to the control API: over the data folder's Unix socket, or over TCP where VALETKEY_URL says so.

Standard library only. Redirects are never followed and proxy variables are ignored: a token goes to one place.
"""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from valetkey.cli.failure import ExitCode, Failure, NoServer
from valetkey.loopback import is_loopback
from valetkey.server.home import Home
from valetkey.unix_http import UnixConnection

PREFIX = "/api/v1"
MAX_PAGE = 200
"""Most items that the server gives at once."""
PATIENCE = 60.0
"""Seconds for an answer: far more than any action takes."""


DESCRIPTION = f"{PREFIX}/openapi.json"
"""Where the API sends programs that ask wrongly; for a person at a command line it is no step."""


_PLAIN_KEY = re.compile(r"[a-z][a-z0-9]{1,9}_(?:pub|prv|ptr|tmp|svc|api)_[0-9A-Za-z]{16,}")
"""As `keys.format` has it: wider than a key, for one cut short or mistyped is as secret."""


class Client:
    """The control API of one server. Every method raises `Failure` for whatever is not a good answer."""

    def __init__(self, home: Home, url: str | None = None, token: str | None = None) -> None:
        self.home = home
        self.remote = None if url is None else _Remote(url)
        self._token = token

    def __repr__(self) -> str:
        return "Client(***)"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Client:
        """The client that the environment asks for."""
        home = Home.from_environment(environment)
        url = environment.get("VALETKEY_URL")
        if not url:
            return cls(home)
        file = environment.get("VALETKEY_TOKEN_FILE")
        return cls(home, url, None if not file else _read_token(Path(file).expanduser()))

    @property
    def gateway_host(self) -> str:
        """Host under which this machine reaches the server."""
        return "127.0.0.1" if self.remote is None else self.remote.host_in_url

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", _with_query(path, query))

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float | None = PATIENCE,
    ) -> Any:
        return self._call("POST", path, {} if body is None else body, headers, patience)

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, body)

    def put(self, path: str, body: Any) -> Any:
        return self._call("PUT", path, body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def page(
        self, path: str, query: Mapping[str, Any], *, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """One page; a limit above what the server gives at once is put together from several."""
        items: list[Any] = []
        while True:
            at_once = None if limit is None else min(limit - len(items), MAX_PAGE)
            answer = self.get(path, **query, limit=at_once, cursor=cursor)
            items += answer["items"]
            cursor = answer.get("next")
            if limit is None or cursor is None or len(items) >= limit:
                return {**answer, "items": items, "next": cursor}

    def stream(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Objects as they come, one a line, until the server ends the stream. It is asked for at once."""
        return self._lines(self._send("GET", _with_query(path, query), None, {}, None))

    def _lines(self, connection: http.client.HTTPConnection) -> Iterator[dict[str, Any]]:
        try:
            answer = connection.getresponse()
            if answer.status != 200:
                self._refuse(answer.status, answer.read())
            while line := answer.readline():
                if line.strip():
                    yield self._decode(line)
        except (OSError, http.client.HTTPException):
            return  # an end of the stream like any other: the caller says so
        finally:
            connection.close()

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = PATIENCE,
    ) -> Any:
        connection = self._send(method, path, body, headers or {}, patience)
        try:
            answer = connection.getresponse()
            content = answer.read()
        except TimeoutError:
            raise _too_slow() from None
        except (OSError, http.client.HTTPException):
            raise _broke_off() from None
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            self._refuse(answer.status, content)
        return self._decode(content)

    def _send(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], patience: float | None
    ) -> http.client.HTTPConnection:
        connection = self._connection(patience)
        sent = {"Accept": "application/json", "User-Agent": "valetkey-cli", **headers}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        content = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from None
        try:
            connection.request(method, PREFIX + path, content, sent)
        except TimeoutError:
            connection.close()
            raise _too_slow() from None
        except (OSError, http.client.HTTPException):
            # The exception may carry what was sent: it is not chained.
            connection.close()
            raise _broke_off() from None
        return connection

    def _connection(self, patience: float | None) -> http.client.HTTPConnection:
        if self.remote is not None:
            return self.remote.connection(patience)
        try:
            path = self.home.control_socket
            owner, folder_owner = path.stat().st_uid, self.home.folder.stat().st_uid
        except OSError as error:
            raise self._unreachable(error) from None
        if owner != folder_owner:
            # Where the socket lies outside the home, a stranger could have put one there to collect secrets.
            raise Failure(
                f"The socket {path} does not belong to the owner of {self.home.folder}.",
                "Find out who made it; nothing was sent.",
                ExitCode.NOT_PERMITTED,
            )
        return UnixConnection(path, patience)

    def _unreachable(self, error: OSError) -> Failure:
        if self.remote is None:
            if isinstance(error, PermissionError):
                return Failure(
                    f"Only the owner of {self.home.folder} reaches its server without a token.",
                    "Run it as that user, or set VALETKEY_URL and VALETKEY_TOKEN_FILE.",
                    ExitCode.NOT_PERMITTED,
                )
            holder = self.home.holder()
            if holder is not None:
                return NoServer(
                    f"The valetkey server of {self.home.folder} (process {holder}) does not answer.",
                    "Read its messages: it may be starting, or be kept from it.",
                )
            if os.environ.get("VALETKEY_HOME") and not self.home.folder.exists():
                return NoServer(
                    f"There is no data folder at {self.home.folder}.",
                    "Correct VALETKEY_HOME, or make a new one there: valetkey serve",
                )
            return NoServer(
                f"No valetkey server is running for {self.home.folder}.", "Start one: valetkey serve"
            )
        if self.remote.secure:
            import ssl

            if isinstance(error, ssl.SSLCertVerificationError):
                return Failure(
                    f"The certificate of {self.remote.base} is not trusted.",
                    "Name its authority in SSL_CERT_FILE, or correct VALETKEY_URL.",
                )
            if isinstance(error, ssl.SSLError):
                return Failure(
                    f"{self.remote.base} does not speak TLS as it should.", "Correct VALETKEY_URL."
                )
        return NoServer(
            f"No valetkey server answers at {self.remote.base}.",
            "Check VALETKEY_URL, or start one there: valetkey serve",
        )

    def _decode(self, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._stranger()
        return answer

    def _refuse(self, status: int, content: bytes) -> None:
        try:
            problem = json.loads(content)
            sentence = str(problem.get("detail") or problem["title"])
            next_step = str(problem.get("next_step") or "")
            code = str(problem.get("code") or "") or None
        except (ValueError, KeyError, AttributeError):
            raise self._stranger() from None
        if status == 401 and self._token is None:
            next_step = "Put an API token into a file and name that in VALETKEY_TOKEN_FILE."
        elif not next_step or DESCRIPTION in next_step:
            next_step = _own_next_step()
        exit_code = ExitCode.NOT_PERMITTED if status in (401, 403) else ExitCode.FAILED
        raise Failure(sentence, next_step, exit_code, code)

    def _stranger(self) -> Failure:
        where = self.home.control_socket if self.remote is None else self.remote.base
        return Failure(f"What answers at {where} is not a valetkey server's API.", "Check VALETKEY_URL.")


class _Remote:
    """A control port somewhere. Raises `Failure` for an address that must not be used."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        if (
            parts.scheme not in ("http", "https")
            or not host
            or "@" in parts.netloc
            or parts.path not in ("", "/")
        ):
            raise Failure(
                "VALETKEY_URL is no address of a server.",
                "Write it as https://valetkey.example.com:8200.",
                ExitCode.USAGE,
            )
        self.secure = parts.scheme == "https"
        if not self.secure and not is_loopback(host):
            raise Failure(
                "VALETKEY_URL would send the token over the network unencrypted.",
                "Use https://, or a tunnel that ends on localhost.",
                ExitCode.USAGE,
            )
        self.host = host
        self.port = port or (443 if self.secure else 80)
        self.host_in_url = f"[{host}]" if ":" in host else host
        self.base = f"{parts.scheme}://{self.host_in_url}:{self.port}"

    def connection(self, patience: float | None) -> http.client.HTTPConnection:
        if not self.secure:
            return http.client.HTTPConnection(self.host, self.port, timeout=patience)
        import ssl

        return http.client.HTTPSConnection(
            self.host, self.port, timeout=patience, context=ssl.create_default_context()
        )


def connect() -> Client:
    """The client of this process's environment."""
    return Client.from_environment(os.environ)


def refuse_plain_key(text: str | None) -> None:
    """Raise `Failure` where a key itself was given for its id. The key is not repeated, and sent nowhere."""
    if text is None or not _PLAIN_KEY.match(text):
        return
    kind, last4 = text.split("_")[1], text[-4:]
    if kind == "api":
        find = f"Its id stands beside its last four characters ({last4}) in: valetkey token list"
    elif kind == "svc":
        find = (
            f"Its id stands beside its last four characters ({last4}) in: valetkey service credentials NAME"
        )
    else:
        find = f"Its id: valetkey key find, which reads it unseen, or valetkey key list --last4 {last4}"
    raise Failure(
        "That is a key itself, not the id of one, and it now stands in your shell's history.",
        f"Take it out of there, and treat it as exposed. {find}",
        ExitCode.USAGE,
    )


def segment(name: str) -> str:
    """One segment of a path. Raises `Failure` for a name that cannot be one."""
    if name in ("", ".", ".."):
        raise Failure("That cannot be a name.", "Give the name or id as a list shows it.", ExitCode.USAGE)
    refuse_plain_key(name)
    return quote(name, safe="")


def _with_query(path: str, query: Mapping[str, Any]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _read_token(file: Path) -> str:
    try:
        token = file.read_text("ascii").strip()
        shared = file.stat().st_mode & 0o077
    except (OSError, ValueError):
        raise Failure(
            "The file that VALETKEY_TOKEN_FILE names cannot be read.",
            "Make one on the server: valetkey token issue PARTY",
        ) from None
    if not token or not token.isprintable() or " " in token:
        raise Failure(
            "The file that VALETKEY_TOKEN_FILE names holds no token.",
            "Put the token alone into it.",
        )
    if shared:
        from valetkey.cli.terminal import warn

        warn(f"Other users can read {file}. Run: chmod 600 {file}")
    return token


def _own_next_step() -> str:
    """What a person can do where the server has no step for them: an example of the command that was given."""
    import click

    context = click.get_current_context(silent=True)
    if context is None:
        return ""
    examples = getattr(context.command, "examples", ())
    example = f" For example: {examples[0]}" if examples else ""
    return f"See: {context.command_path} --help.{example}"


def _too_slow() -> Failure:
    return Failure(
        f"The server did not answer within {PATIENCE:.0f} seconds.",
        "See: valetkey status; it may have done what was asked.",
    )


def _broke_off() -> Failure:
    return Failure(
        "The server broke off the connection.", "See: valetkey status; it may have done what was asked."
    )
