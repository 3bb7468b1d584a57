"""A root key is used only from a place that its owner alone controls, and a wrong one says so."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from valetkey.errors import Invalid
from valetkey.vault.plain import PlainSecret
from valetkey.vault.root_key import (
    CREDENTIAL_NAME,
    VARIABLE_NAME,
    CredentialRootKey,
    EnvironmentRootKey,
    FileRootKey,
    PassphraseRootKey,
    RootKeyRefused,
    decode_root_key,
    default_path,
    encode_root_key,
)
from valetkey.vault.sealing import RootKey


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    before = os.umask(0o077)
    yield tmp_path / "configuration" / "home.key"
    os.umask(before)


def test_a_created_key_is_loaded_again_and_is_its_owners_alone(path: Path) -> None:
    os.umask(0)
    made = FileRootKey(path).create()
    assert FileRootKey(path).load() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == [path.name]


def test_an_existing_key_is_never_overwritten(path: Path) -> None:
    made = FileRootKey(path).create()
    with pytest.raises(RootKeyRefused, match="exists"):
        FileRootKey(path).create()
    assert FileRootKey(path).load() == made
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o644])
def test_a_key_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    FileRootKey(path).create()
    path.chmod(mode)
    with pytest.raises(RootKeyRefused, match="Others"):
        FileRootKey(path).load()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(path: Path, mode: int) -> None:
    FileRootKey(path).create()
    path.parent.chmod(mode)
    with pytest.raises(RootKeyRefused, match="write"):
        FileRootKey(path).load()
    with pytest.raises(RootKeyRefused, match="write"):
        FileRootKey(path.with_name("other.key")).create()


def test_a_link_to_a_key_is_refused(path: Path) -> None:
    FileRootKey(path).create()
    link = path.with_name("link.key")
    link.symlink_to(path)
    with pytest.raises(RootKeyRefused, match="symbolic link"):
        FileRootKey(link).load()
    dangling = path.with_name("dangling.key")
    dangling.symlink_to(path.with_name("nowhere"))
    with pytest.raises(RootKeyRefused):
        FileRootKey(dangling).create()


def test_a_pipe_or_folder_in_its_place_does_not_hang(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(RootKeyRefused, match="regular"):
        FileRootKey(path).load()
    with pytest.raises(RootKeyRefused):
        FileRootKey(path.parent).load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_or_folder_of_another_user_is_refused(path: Path) -> None:
    FileRootKey(path).create()
    os.chown(path, 12345, -1)
    with pytest.raises(RootKeyRefused, match="another user"):
        FileRootKey(path).load()
    os.chown(path, 0, -1)
    os.chown(path.parent, 12345, -1)
    with pytest.raises(RootKeyRefused, match="another user"):
        FileRootKey(path).load()


def test_a_missing_key_is_an_error_and_not_a_new_key(path: Path) -> None:
    with pytest.raises(RootKeyRefused, match="cannot be opened"):
        FileRootKey(path).load()
    assert not path.exists()


@pytest.mark.parametrize("cut", [0, 1, 40, 88])
def test_a_damaged_key_is_noticed_and_not_repeated(path: Path, cut: int) -> None:
    FileRootKey(path).create(lambda size: bytes(range(size)))
    text = path.read_bytes()
    for damaged in (text[:cut], text[:-3] + b"ff\n", text + b"x", text * 20):
        path.write_bytes(damaged)
        with pytest.raises(RootKeyRefused, match="no whole root key") as refusal:
            FileRootKey(path).load()
        assert "0a0b0c" not in str(refusal.value)


def test_a_key_inside_the_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RootKeyRefused, match="inside the data folder"):
        FileRootKey(tmp_path / "home" / "x" / ".." / "root.key", tmp_path / "home")
    FileRootKey(tmp_path / "home.key", tmp_path / "home")


def test_the_default_place_follows_the_environment() -> None:
    assert default_path("h1", {"HOME": "/u"}) == Path("/u/.config/valetkey/h1.key")
    assert default_path("h1", {"HOME": "/u", "XDG_CONFIG_HOME": "/c"}) == Path("/c/valetkey/h1.key")
    assert default_path("h1", {"HOME": "/u", "XDG_CONFIG_HOME": "c"}) == Path("/u/.config/valetkey/h1.key")
    assert default_path("h1", {"HOME": "/u", "VALETKEY_ROOT_KEY_FILE": "/k"}) == Path("/k")
    with pytest.raises(Invalid):
        default_path("../h1", {"HOME": "/u"})


def test_a_passphrase_gives_the_same_key_each_time_and_a_wrong_one_none(path: Path) -> None:
    made = PassphraseRootKey(PlainSecret("six random words"), path).create()
    assert PassphraseRootKey(PlainSecret("six random words"), path).load() == made
    with pytest.raises(RootKeyRefused, match="not the one"):
        PassphraseRootKey(PlainSecret("seven random words"), path).load()
    kept = json.loads(path.read_text())
    assert (kept["time_cost"], kept["memory_kib"], kept["lanes"]) == (3, 65536, 4)
    assert made.reveal().hex() not in path.read_text()


def test_a_salt_file_that_weakens_the_derivation_is_refused(path: Path) -> None:
    PassphraseRootKey(PlainSecret("six random words"), path).create()
    kept = json.loads(path.read_text())
    changes: list[dict[str, object]] = [
        {"memory_kib": 8}, {"time_cost": 1}, {"memory_kib": 2**40}, {"salt": ""}, {"version": 2}, {"more": 1},
        {"lanes": 0},
    ]  # fmt: skip
    for change in changes:
        path.write_text(json.dumps(kept | change))
        with pytest.raises(RootKeyRefused, match="damaged"):
            PassphraseRootKey(PlainSecret("six random words"), path).load()


def test_an_empty_passphrase_is_refused(path: Path) -> None:
    with pytest.raises(RootKeyRefused, match="empty"):
        PassphraseRootKey(PlainSecret(""), path).create()


def test_a_systemd_credential_is_read(tmp_path: Path) -> None:
    key = RootKey(bytes(range(32)))
    (tmp_path / CREDENTIAL_NAME).write_bytes(encode_root_key(key))
    assert CredentialRootKey({"CREDENTIALS_DIRECTORY": str(tmp_path)}).load() == key
    with pytest.raises(RootKeyRefused, match="not set"):
        CredentialRootKey({}).load()
    with pytest.raises(RootKeyRefused, match="cannot be read"):
        CredentialRootKey({"CREDENTIALS_DIRECTORY": str(tmp_path)}, "other").load()


def test_a_key_in_the_environment_is_taken_out_of_it() -> None:
    key = RootKey(bytes(range(32)))
    environ = {VARIABLE_NAME: encode_root_key(key).decode()}
    assert EnvironmentRootKey(environ).load() == key
    assert environ == {}
    with pytest.raises(RootKeyRefused, match="not set"):
        EnvironmentRootKey(environ).load()


def test_the_text_of_a_key_carries_its_id() -> None:
    key = RootKey(bytes(range(32)))
    assert decode_root_key(encode_root_key(key), "The text") == key
    assert key.id.encode() in encode_root_key(key)
