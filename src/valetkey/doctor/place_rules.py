"""Rules about what lies where: the root key, the data folder, the sockets."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from valetkey.doctor.facts import FolderFacts, Place, RootKeyFacts
from valetkey.doctor.findings import Finding, Kind, found

OTHERS = 0o077
OTHERS_WRITE = 0o022
ROOT = 0


def root_key_findings(key: RootKeyFacts, home: Place, user: int) -> Iterator[Finding]:
    """Whoever has root key and data folder has everything: the two must lie apart, and neither open.

    `user` is who looks: whether the key opens the home is only known to the home's owner.
    """
    quoted = shlex.quote(key.path)
    if key.inside_home:
        yield found(
            Kind.ROOT_KEY_INSIDE_HOME,
            f"The root key {key.path} lies in the data folder: every copy of that folder opens itself. Move it, and "
            "name the new place in VALETKEY_ROOT_KEY_FILE.",
            f"mv {quoted} ELSEWHERE",
        )
    place = key.place
    if place is None:
        yield found(
            Kind.ROOT_KEY_MISSING,
            f"There is no root key at {key.path}; without it nothing sealed here can be opened.",
            f"cp YOUR-COPY {quoted} && chmod 600 {quoted}",
        )
        return
    faults = [] if key.credential else list(_key_file(key, place, home))
    yield from faults
    # What is wrong with the file is also why it is refused: said once.
    if key.refused is not None and not faults and not key.inside_home and user == home.owner:
        yield found(
            Kind.ROOT_KEY_REFUSED,
            f"The root key {key.path} does not open this data folder, so the next start fails: {key.refused} Name the "
            "file of the one that does in VALETKEY_ROOT_KEY_FILE, or with --root-key-file.",
            "VALETKEY_ROOT_KEY_FILE=FILE-OF-THE-RIGHT-ONE valetkey serve",
        )
    if place.device == home.device and not key.inside_home and not key.credential:
        yield found(
            Kind.ROOT_KEY_SAME_DISK,
            f"The root key {key.path} lies on the same disk as the data: who takes the disk has both.",
            "valetkey vault rewrap --to FILE-ON-ANOTHER-DISK",
        )


def _key_file(key: RootKeyFacts, place: Place, home: Place) -> Iterator[Finding]:
    quoted = shlex.quote(key.path)
    if place.mode & OTHERS:
        yield found(
            Kind.ROOT_KEY_OPEN,
            f"Others than its owner may use the root key {key.path} (mode {place.mode:04o}).",
            f"chmod 600 {quoted}",
        )
    if place.owner != home.owner:
        yield found(
            Kind.ROOT_KEY_OWNER,
            f"The root key {key.path} belongs to user {place.owner}, the data to user {home.owner}.",
            f"chown {home.owner} {quoted}",
        )
    folder = key.folder
    if folder is not None and (folder.mode & OTHERS_WRITE or folder.owner not in (home.owner, ROOT)):
        yield found(
            Kind.ROOT_KEY_FOLDER_OPEN,
            f"Others may write to {folder.path}, and so put another root key there.",
            f"chmod go-w {shlex.quote(folder.path)} && chown {home.owner} {shlex.quote(folder.path)}",
        )


def folder_findings(folder: FolderFacts, *, running: bool) -> Iterator[Finding]:
    """The data folder is its owner's alone, with everything in it."""
    home = folder.home
    quoted = shlex.quote(home.path)
    for path in folder.root_key_copies:
        yield found(
            Kind.ROOT_KEY_COPY_INSIDE_HOME,
            f"{path} holds a root key: a backup of the data folder takes it along.",
            f"mv {shlex.quote(path)} ELSEWHERE",
        )
    if home.mode & OTHERS:
        yield found(
            Kind.HOME_OPEN,
            f"Other users can enter {home.path} (mode {home.mode:04o}); the next start refuses it.",
            f"chmod 700 {quoted}",
        )
    if home.owner != folder.user:
        yield found(
            Kind.HOME_OWNER,
            f"{home.path} belongs to user {home.owner}, but this runs as user {folder.user}, whom a server refuses.",
            f"sudo -u '#{home.owner}' valetkey doctor",
        )
    if folder.database_refused is not None:
        yield found(Kind.DATABASE_REFUSED, folder.database_refused)
    opened = [part for part in folder.parts if part.mode & OTHERS]
    if opened:
        yield found(
            Kind.PART_OPEN,
            f"{_number(len(opened), 'file')} in the data folder may be used by others; only its own mode "
            "keeps them out.",
            f"chmod -R go= {quoted}",
            [part.path for part in opened],
        )
    strange = [part for part in folder.parts if part.owner != home.owner]
    if strange:
        yield found(
            Kind.PART_OWNER,
            f"{_number(len(strange), 'file')} in the data folder belong to another user, who can change them.",
            f"chown -R {home.owner} {quoted}",
            [part.path for part in strange],
        )
    yield from _socket_findings(folder, running=running)


def _socket_findings(folder: FolderFacts, *, running: bool) -> Iterator[Finding]:
    home = folder.home
    for place in (folder.socket, folder.socket_folder):
        if place is not None and (place.mode & OTHERS or place.owner != home.owner):
            yield found(
                Kind.SOCKET_OPEN,
                f"{place.path} is open to others (mode {place.mode:04o}, user {place.owner}); who reaches the "
                "socket is taken for the owner.",
                f"chmod go= {shlex.quote(place.path)}",
            )
    if folder.socket_outside and folder.socket is not None:
        yield found(
            Kind.SOCKET_ELSEWHERE,
            f"The path of the data folder is too long for a socket, so it lies at {folder.socket.path}.",
        )
    others = (folder.sessions or 0) - 1
    if running and others > 0:
        yield found(
            Kind.SOCKET_SESSIONS,
            f"{_number(others, 'other program')} {'is' if others == 1 else 'are'} connected as the local owner.",
        )


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")
