"""Whom a connection to an upstream believes."""

from __future__ import annotations

import ssl
from pathlib import Path
from unittest import mock

import pytest

from certificates import Authority
from valetkey.services.trust import trusting


def believed(made: ssl.SSLContext) -> list[str]:
    subjects = [dict(part[0] for part in one["subject"]) for one in made.get_ca_certs()]
    return sorted(subject.get("commonName", "") for subject in subjects)


@pytest.fixture
def machine(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "machine", "of the machine")


def of_a_machine(authority: Authority) -> mock._patch[mock.MagicMock]:
    paths = mock.Mock(openssl_cafile=str(authority.file), openssl_capath="/nowhere")
    return mock.patch.object(ssl, "get_default_verify_paths", return_value=paths)


def test_a_pin_takes_the_place_of_the_machines_authorities(machine: Authority, tmp_path: Path) -> None:
    pinned = Authority(tmp_path, "pinned")
    with of_a_machine(machine):
        assert believed(trusting(None)) == ["test of the machine"]
        assert believed(trusting(str(pinned.file))) == ["test pinned"]


def test_a_machine_without_authorities_believes_nobody() -> None:
    paths = mock.Mock(openssl_cafile="/nowhere", openssl_capath="/nowhere")
    with mock.patch.object(ssl, "get_default_verify_paths", return_value=paths):
        assert believed(trusting(None)) == []


@pytest.mark.parametrize("pin", [True, False])
def test_verification_is_always_whole(machine: Authority, pin: bool) -> None:
    made = trusting(str(machine.file) if pin else None)
    assert made.verify_mode is ssl.CERT_REQUIRED and made.check_hostname
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2 and not made.hostname_checks_common_name


def test_the_environment_is_not_heard(
    machine: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(machine.file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keylog"))
    made = trusting(None)
    assert "test of the machine" not in believed(made)
    assert made.keylog_filename is None and not (tmp_path / "keylog").exists()


@pytest.mark.parametrize("file", ["", "/nowhere", "/dev/null", "/etc/hostname"])
def test_a_pin_that_cannot_be_read_is_an_error(file: str) -> None:
    with pytest.raises((OSError, ValueError)):
        trusting(file)
