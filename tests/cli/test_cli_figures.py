"""Small things a person reads: spans, sizes, money, bars; and text of strangers that must not steer a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.cli.figures import counted, money, parse_since, relative, size, span, sparkline
from valetkey.cli.terminal import harmless


@given(st.text())
def test_no_text_keeps_a_character_that_steers_a_terminal(text: str) -> None:
    clean = harmless(text)
    assert not {unicodedata.category(character) for character in clean} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(clean) == len(text)
    assert harmless(clean) == clean
    clean.encode()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("curl/8.0", "curl/8.0"),
        ("käse 🧀 日本", "käse 🧀 日本"),
        ("\x1b[31mred\x1b[0m", "�[31mred�[0m"),
        ("a\r\nb\tc", "a  b c"),
        ("\x9b31m", "�31m"),
        ("user\u202egnp.exe", "user�gnp.exe"),
        ("\x1b]0;title\x07", "�]0;title�"),
        ("\ud800", "�"),
        ("\u2028", "�"),
    ],
)
def test_control_characters_become_visible(text: str, clean: str) -> None:
    assert harmless(text) == clean


def test_spans_sizes_and_money_read_well() -> None:
    assert [span(s) for s in (0.2, 59, 61, 7200, 86_400 * 3, 31_536_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "2 h",
        "3 d",
        "1 y",
    ]
    assert (relative(100, 160), relative(86_500, 100), relative(None, 1)) == ("1 min ago", "in 1 d", "-")
    assert [size(n) for n in (None, 0, 999, 1200, 15_000, 2_500_000, 10**13)] == [
        "-", "0 B", "999 B", "1.2 kB", "15 kB", "2.5 MB", "10.0 TB",
    ]  # fmt: skip
    assert [money(m) for m in (None, 0, 10_000, 1_234_567, 5_000_000)] == [
        "-",
        "0.00",
        "0.01",
        "1.234567",
        "5.00",
    ]
    assert [counted(n, "answer", "answers") for n in (0, 1, 2)] == ["No answers", "1 answer", "2 answers"]


def test_bars_show_the_highest_full_and_nothing_lowest() -> None:
    assert sparkline([0, 1, 4, 8]) == "▁▂▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([0] * 167 + [5]) == "▁" * 23 + "█"


@given(st.lists(st.integers(0, 10**9), max_size=800))
def test_there_are_never_more_than_24_bars_and_a_call_is_never_lost(counts: list[int]) -> None:
    bars = sparkline(counts)
    assert len(bars) <= 24
    assert (set(bars) <= {"▁"}) == (sum(counts) == 0)


def test_since_is_a_span_a_day_or_a_time() -> None:
    assert parse_since("1h", 10_000) == 6400
    assert parse_since("1h ago", 10_000) == 6400
    assert parse_since("2026-01-01", 0) == 1_767_225_600
    assert parse_since("2026-01-01T01:00:00+01:00", 0) == 1_767_225_600
