"""Tables on narrow terminals: identifiers stay whole, less important columns go, long texts are shortened."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cli_fake_api import FakeApi, Lines
from cli_world import Run
from hypothesis import given
from hypothesis import strategies as st
from test_cli_output import EVENT, KEY, NOW

from valetkey.cli import tables
from valetkey.cli.figures import sparkline
from valetkey.cli.layout import GAP, Column, fit
from valetkey.cli.tables import shortened
from valetkey.cli.terminal import width_of

LONG = "key_aaaaaaaaaaaaaaaa"
Narrow = Callable[[int], None]


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Narrow:
    """Makes standard output a terminal so many columns wide."""
    return lambda columns: monkeypatch.setattr(tables, "room", lambda: columns)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.integers(1, 60)), min_size=1, max_size=8),
    st.integers(1, 200),
)
def test_what_fits_is_shown_and_what_stays_is_as_wide_as_it_must_be(
    made: list[tuple[int, int, int]], room: int
) -> None:
    columns = [Column("H", leave_out, least) for leave_out, least, _ in made]
    widths = [width for *_, width in made]
    given_widths = fit(columns, widths, room)
    shown = [width for width in given_widths if width]
    for column, natural, width in zip(columns, widths, given_widths, strict=True):
        assert width or column.leave_out, "only what may go is left out"
        assert (
            not width or width == natural or (column.least and min(column.least, natural) <= width < natural)
        )
    if sum(shown) + GAP * (len(shown) - 1) > room:
        for column, natural, width in zip(columns, widths, given_widths, strict=True):
            assert not (width and column.leave_out), "all that may go has gone"
            smallest = min(natural, max(column.least, 1)) if column.least else natural
            assert width in (0, smallest)


def test_a_narrow_column_comes_back_where_a_wide_one_made_room() -> None:
    columns = [Column("ID"), Column("IN", 1), Column("BARS", 2)]
    assert fit(columns, [10, 4, 24], 30) == [10, 4, 0]


def test_without_a_terminal_nothing_is_shortened() -> None:
    assert fit([Column("A", 1, 2), Column("B")], [500, 500], None) == [500, 500]


@pytest.mark.parametrize("line", ["events", "usage", "key list", "audit list", "events --follow"])
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_identifiers_are_whole_and_lines_fit(
    run: Run, api: FakeApi, narrow: Narrow, monkeypatch: pytest.MonkeyPatch, line: str, columns: int
) -> None:
    from valetkey.cli.commands import events

    monkeypatch.setattr(events, "room", lambda: columns)
    narrow(columns)
    event = {
        **EVENT, "key_id": LONG, "path": "/v1/" + "p" * 200, "service": "s" * 31, "holder": "h" * 60,
        "code": "CONCURRENCY_LIMITED", "call": "01997f3a-5c00-7abc-8def-0123456789ab",
    }  # fmt: skip
    key = {**KEY, "id": LONG, "service": "s" * 31, "holder": "h" * 60, "label": "l" * 120}
    use: dict[str, Any] = {
        "key_id": LONG, "label": "l" * 60, "holder": "h" * 60, "service": "s" * 31, "calls": 12345, "refused": 3,
        "bytes_in": 1, "bytes_out": 1, "cost": 1, "hours": [1] * 24,
    }  # fmt: skip
    entry = {
        "id": "aud_5snyvg35qdtqk76r",
        "time": EVENT["time"],
        "action": "key:issue",
        "subject": f"key:{LONG}",
        "actor": "a" * 60,
        "outcome": "done",
    }
    api.answer("GET", "/events", {"items": [event], "next": None})
    api.answer("GET", "/events/stream", Lines([event]))
    api.answer("GET", "/keys", {"items": [key], "next": None})
    api.answer("GET", "/usage", {"items": [use], "next": None})
    api.answer("GET", "/audit", {"items": [entry], "next": None})
    lines = run(*line.split()).out.splitlines()
    assert len(lines) == 2
    assert LONG in lines[1]
    if columns >= 80:
        assert all(width_of(one) <= columns for one in lines)


def test_what_is_shortened_shows_that_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdef", 4) == "abc…"
    assert width_of(shortened("日本語の名前", 6)) <= 6
    monkeypatch.setattr(tables, "can_show", lambda _: False)
    assert shortened("abcdef", 4) == "abc~"


def test_the_bars_are_plain_where_the_terminal_has_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from valetkey.cli import figures

    assert sparkline([0, 1, 7]) == "▁▂█"
    monkeypatch.setattr(figures, "can_show", lambda _: False)
    assert sparkline([0, 1, 7]) == "_.#"


def test_a_terminal_in_the_posix_locale_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    from valetkey.cli import terminal

    monkeypatch.setattr(terminal, "is_terminal", lambda _: True)
    monkeypatch.setenv("LC_ALL", "POSIX")
    assert not terminal.can_show("▁")
    assert terminal.can_show("a")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert terminal.can_show("▁") == (sys.stdout.encoding.lower() in ("utf-8", "utf8"))


def test_following_shows_the_headings_once_and_the_columns_of_the_table(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/events/stream", Lines([EVENT, {**EVENT, "call": "c2"}]))
    api.answer("GET", "/events", {"items": [EVENT], "next": None})
    heading, first, second = run("events", "--follow").out.splitlines()
    assert re.sub(" +", " ", heading) == re.sub(" +", " ", run("events").out.splitlines()[0])
    assert first.removesuffix("c1") == second.removesuffix("c2")
    assert first.index("ENDPOINT_DENIED") == heading.index("CODE")
    assert first.index("openai") == heading.index("SERVICE")
