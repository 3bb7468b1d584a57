"""A new root key for a home that is served: its file, the transaction, and the file that it takes the place of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from valetkey.errors import Invalid
from valetkey.server.home import Home
from valetkey.server.opening import root_key_provider
from valetkey.settings import Settings
from valetkey.vault.rewrapping import Rewrap, Rewrapped, next_path, put_in_place
from valetkey.vault.root_key import FileRootKey, RootKeyRefused


class NewRootKey(msgspec.Struct, frozen=True):
    """What opens the home now, and what did before."""

    root_key: str
    former: str
    file: str
    kept: str | None
    """Where the former one lies; None where that is not known."""


async def rewrap_home(
    home: Home,
    settings: Settings,
    file: str | None,
    in_use: Callable[[], Awaitable[str]],
    perform: Callable[[Rewrap], Awaitable[Rewrapped]],
) -> NewRootKey:
    """Seal everything under a new root key. Raises `Invalid` and `RootKeyRefused`.

    `file`: where it lies or is to lie; None replaces the one in use. `in_use` says the id of that one.
    """
    folder = str(home.folder)
    if file is not None:
        if not Path(file).is_absolute():
            raise Invalid("The file has no absolute path.", "Begin it with a slash.", field="file")
        if not Path(file).parent.is_dir():
            raise Invalid(
                f"There is no folder {Path(file).parent}.",
                "Make it first, for the server's user alone: a root key in a folder that was misspelt is soon lost.",
                field="file",
            )
        done = await perform(Rewrap(file, folder))
        return NewRootKey(
            done.root_key, done.former, file, await asyncio.to_thread(_place_of, home, settings, done.former)
        )
    provider = root_key_provider(home, settings)
    if not isinstance(provider, FileRootKey):
        raise Invalid(
            "The root key of this server is a credential of systemd, which is not for the server to replace.",
            "Name a file for the new one with --to, and make that the credential.",
            field="file",
        )
    path = provider.path.absolute()
    await asyncio.to_thread(put_in_place, path, await in_use())  # what an earlier one could not finish
    done = await perform(Rewrap(str(next_path(path)), folder))
    kept = await asyncio.to_thread(put_in_place, path, done.root_key)
    return NewRootKey(done.root_key, done.former, str(path), None if kept is None else str(kept))


def _place_of(home: Home, settings: Settings, root_key_id: str) -> str | None:
    """The configured root key file, where it holds that key."""
    with suppress(RootKeyRefused):
        provider = root_key_provider(home, settings)
        if isinstance(provider, FileRootKey) and provider.load().id == root_key_id:
            return str(provider.path.absolute())
    return None
