"""A variable or setting that is nearly one of ours is not passed by in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from running_server import RunningServer
from valetkey.errors import Invalid
from valetkey.server.home import Home
from valetkey.server.settings import load_settings
from valetkey.variables import about_unknown, unknown_variables


def test_only_names_with_our_prefix_that_nothing_reads_are_unknown() -> None:
    names = ["PATH", "VALETKEY_HOME", "VALETKEY_ROOTKEY_FILE", "VALETKEY_ADRESS", "MY_VALETKEY_HOME"]
    assert unknown_variables(names) == ["VALETKEY_ADRESS", "VALETKEY_ROOTKEY_FILE"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("VALETKEY_ROOTKEY_FILE", "VALETKEY_ROOT_KEY_FILE may be meant"),
        ("VALETKEY_HOM", "VALETKEY_HOME may be meant"),
        ("VALETKEY_GATEWAYPORT", "VALETKEY_GATEWAY_PORT may be meant"),
        ("VALETKEY_ADRESS", "docs/reference/settings.md names those that are read"),
    ],
)
def test_the_nearest_name_is_told(typed: str, meant: str) -> None:
    assert about_unknown(typed) == f"Nothing reads the variable {typed}; {meant}."


def test_a_setting_that_does_not_exist_stops_the_start_and_names_the_nearest(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.config.write_text('listten = "127.0.0.1"\n')
    with pytest.raises(Invalid) as refused:
        load_settings(home, {})
    assert refused.value.sentence == "There is no setting listten. Did you mean 'listen'?"
    home.config.write_text("zzzzzz = 1\n")
    with pytest.raises(Invalid) as refused:
        load_settings(home, {})
    assert refused.value.sentence == "There is no setting zzzzzz."


@pytest.mark.real
def test_server_and_doctor_warn_of_a_mistyped_variable_and_tell_no_value() -> None:
    mistyped = {"VALETKEY_GATEWAYPORT": "not-to-be-told"}
    said = "Nothing reads the variable VALETKEY_GATEWAYPORT; VALETKEY_GATEWAY_PORT may be meant."
    with RunningServer(environment=mistyped) as server:
        assert said in server.errors
        own = {name: value for name, value in server.environment.items() if name not in mistyped}
        for environment in (os.environ | own, os.environ | own | mistyped):
            done = subprocess.run(
                [sys.executable, "-m", "valetkey", "doctor"],
                env=environment, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert said in done.stdout, "the server looked at its own environment"
            assert (said in done.stderr) == ("VALETKEY_GATEWAYPORT" in environment)
            assert "not-to-be-told" not in done.stdout + done.stderr
        assert "not-to-be-told" not in server.errors
