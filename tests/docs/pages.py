"""The written pages of the repository, and what stands in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FRONT = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = sorted([*FRONT, *DOCS.rglob("*.md")])
PLAYED = [ROOT / "README.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
"""Pages whose every command is run."""

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ANCHOR = re.compile(r'<a id="([^"]+)">')


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_blocks(text: str) -> str:
    """The sentences of a page: its blocks of code left out."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """Targets of all links and pictures."""
    return _LINK.findall(without_blocks(text))


def anchors(path: Path) -> set[str]:
    """What can stand behind ``#`` in a link to this page, as common Markdown viewers make it."""
    text = without_blocks(path.read_text("utf-8"))
    made = {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in _HEADING.findall(text)
    }
    return made | set(_ANCHOR.findall(text))
