"""``valetkey clock``: what to do when records name later instants than the clock."""

from __future__ import annotations

from valetkey.cli.client import connect
from valetkey.cli.figures import day_and_time
from valetkey.cli.grammar import group, json_flag
from valetkey.cli.terminal import say, say_json


@group("clock", examples=("valetkey clock accept",))
def clock() -> None:
    """What to do when records name later instants than the clock."""


@clock.command("accept", examples=("valetkey clock accept",))
@json_flag
def accept(as_json: bool) -> None:
    """Take the clock as right although records name later instants.

    A clock more than a minute behind the newest record makes every call NOT_READY: a clock set back would open
    quotas and keys again. Where it was the record that was wrong, because the clock ran ahead for a while, this
    says so. Keys that expired meanwhile stay expired; what was spent counts in the windows of now.
    """
    answer = connect().post("/clock/accept", {})
    if as_json:
        say_json(answer)
        return
    say(f"The clock is accepted: it is {day_and_time(answer['now'])}. Calls are decided again.")
