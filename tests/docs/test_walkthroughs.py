"""Every command in README, tutorial and how-tos does what the page says."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, PLAYED, name_of
from walkthrough import Walkthrough, matches, steps_of

from standins.anthropic_standin import AnthropicStandIn
from standins.github_standin import GitHubStandIn
from standins.openweather_standin import OpenWeatherStandIn
from standins.running import made_up_key, running
from standins.stripe_standin import StripeStandIn
from valetkey.demo.standin import OpenAIStandIn

FENCE = re.compile(r"^```(\w*)$", re.MULTILINE)
KINDS = {"console", "sh", "python", "text", "toml", "nginx", "json", "javascript"}
NOT_RUN = {"script/test": "it is what runs this test"}


@pytest.fixture(scope="module")
def apis() -> Iterator[dict[str, Any]]:
    made = {
        "openai": OpenAIStandIn(made_up_key("sk-test-")),
        "anthropic": AnthropicStandIn(made_up_key("sk-ant-test-")),
        "stripe": StripeStandIn(made_up_key("sk_" + "test_")),
        "github": GitHubStandIn(made_up_key("ghp_", 36)),
        "openweather": OpenWeatherStandIn(secrets.token_hex(16)),
    }
    with ExitStack() as stack:
        yield {name: stack.enter_context(running(api)) for name, api in made.items()}


@pytest.mark.real
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", PLAYED, ids=name_of)
def test_every_command_of_the_page_works_and_says_what_is_shown(path: Path, apis: dict[str, Any]) -> None:
    text = path.read_text("utf-8")
    for command in NOT_RUN:
        text = text.replace(f"$ {command}\n", "")
    with Walkthrough(apis) as walk:
        walk.play(text, name_of(path))


def test_every_block_says_of_what_kind_it_is_so_that_no_command_stays_unrun() -> None:
    for path in PLAYED:
        marks = FENCE.findall(path.read_text("utf-8"))
        assert len(marks) % 2 == 0, name_of(path)
        assert set(marks[::2]) <= KINDS, f"{name_of(path)}: {set(marks[::2]) - KINDS}"
        assert set(marks[1::2]) <= {""}, name_of(path)


def test_tutorial_and_every_how_to_hold_commands() -> None:
    for path in PLAYED:
        assert steps_of(path.read_text("utf-8")), name_of(path)
    assert len(list((DOCS / "how-to").glob("*.md"))) >= 10


def test_what_a_page_shows_is_compared_word_for_word_but_for_the_marked_places() -> None:
    assert matches(("key_… is …",), "key_abc is dead")
    assert not matches(("key_… is dead",), "key_abc is alive")
    assert matches(("first", "…", "last"), "first\nsecond\nthird\nlast")
    assert matches(("…", "only"), "only")
    assert not matches(("first",), "first\nsecond")
