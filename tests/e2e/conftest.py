"""One server with two workers and one stand-in of each well-known API, shared by all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from running_server import RunningServer
from standins.anthropic_standin import AnthropicStandIn
from standins.github_standin import GitHubStandIn
from standins.openweather_standin import OpenWeatherStandIn
from standins.running import made_up_key, running
from standins.stripe_standin import StripeStandIn
from valetkey.demo.standin import OpenAIStandIn


@dataclass(frozen=True)
class StandIns:
    """The vendors."""

    openai: OpenAIStandIn
    anthropic: AnthropicStandIn
    stripe: StripeStandIn
    github: GitHubStandIn
    openweather: OpenWeatherStandIn

    def connect(self, server: RunningServer) -> None:
        """Add all of them to a server, each under its preset's name."""
        for name in ("openai", "anthropic", "stripe", "github", "openweather"):
            api = getattr(self, name)
            server.open_service(api.real_key, name, preset=name, base_url=api.url)


@pytest.fixture(scope="session")
def standins() -> Iterator[StandIns]:
    with ExitStack() as stack:
        yield StandIns(
            stack.enter_context(running(OpenAIStandIn(made_up_key("sk-test-")))),
            stack.enter_context(running(AnthropicStandIn(made_up_key("sk-ant-test-")))),
            stack.enter_context(running(StripeStandIn(made_up_key("sk_" + "test_")))),
            stack.enter_context(running(GitHubStandIn(made_up_key("ghp_", 36)))),
            stack.enter_context(running(OpenWeatherStandIn(made_up_key("", 32)))),
        )


@pytest.fixture(scope="session")
def openai_api(standins: StandIns) -> OpenAIStandIn:
    return standins.openai


@pytest.fixture(scope="session")
def server(standins: StandIns) -> Iterator[RunningServer]:
    """Two workers, all presets."""
    with RunningServer(workers=2) as running_server:
        standins.connect(running_server)
        yield running_server
