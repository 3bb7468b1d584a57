"""What holds for every written page: its links lead somewhere, its words are those of the glossary."""

from __future__ import annotations

import ast
import re
import tomllib
from html import unescape
from pathlib import Path

import msgspec
import pytest
from pages import DOCS, FRONT, PAGES, PLAYED, ROOT, anchors, links, name_of, without_blocks

from valetkey.decision.codes import CODES, Code
from valetkey.demo import story
from valetkey.settings import Settings

MAX_README_LINES = 200
WORDS = (
    *("Workspace", "Environment", "Service", "Preset", "Secret", "Vault", "Party", "Key", "Kind", "Holder"),
    *("Restriction", "Limit", "Call", "Decision", "Code", "Journal", "Audit", "Endpoint", "Gateway"),
    *("Token", "Lease", "Revoke", "Cut", "Fenced", "Checkpoint"),
)
# A page says what is, to somebody who uses it: nothing about how the page came to be, nothing for later.
OUT_OF_PLACE = re.compile(
    r"\b(TODO|FIXME|TBD|XXX|coming soon|roadmap|stay tuned|simply|blazing\w*|seamless\w*|enterprise-grade"
    r"|cutting-edge|world-class|effortless\w*|revolutionary)\b",
    re.IGNORECASE,
)
FIRST_PERSON = re.compile(r"\b(I|I'm|we|our team|let's)\b")
CODE_WORD = re.compile(r"`([A-Z][A-Z]+(?:_[A-Z]+)+)`")
VARIABLE = re.compile(r"^VALETKEY_|_(KEY|URL|TOKEN)$")
WRITTEN = [*PLAYED, *FRONT, *sorted((DOCS / "explanation").glob("*.md")), DOCS / "glossary.md"]
"""Pages that people wrote; the others are made from the code, or are formats and measurements."""


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_inside_the_repository_leads_to_something(path: Path) -> None:
    for link in links(path.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), link
        assert ROOT in there.parents, link
        if anchor:
            assert anchor in anchors(there), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        found = (link.partition("#")[0] for link in links(page.read_text("utf-8")) if ":" not in link)
        waiting += [(page.parent / link).resolve() for link in found if link]
    lost = {name_of(path) for path in PAGES} - {name_of(path) for path in seen}
    assert {name for name in lost if not name.startswith(("docs/decisions/", "docs/results/"))} == set()


def test_readme_is_short_and_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) < MAX_README_LINES
    assert "$ script/demo" in text and "$ script/test" in text
    rows = [line for line in text.splitlines() if line.startswith("|") and "`valetkey key " in line]
    assert [
        word for word in ("chat", "mail", ".env", "shared account", "ardcoding") if word not in "".join(rows)
    ] == []


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_page_speaks_of_the_product_alone_and_plainly(path: Path) -> None:
    text = without_blocks(path.read_text("utf-8"))
    assert OUT_OF_PLACE.findall(text) == []
    assert FIRST_PERSON.findall(text) == []


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_every_decision_code_that_a_page_names_exists(path: Path) -> None:
    named = {word for word in CODE_WORD.findall(path.read_text("utf-8")) if not VARIABLE.search(word)}
    assert named <= set(Code)


def test_every_word_of_the_design_is_explained_once() -> None:
    explained = re.findall(r"^- \*\*([^*]+)\*\*", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    assert [word for word in WORDS if explained.count(word) != 1] == []
    assert len(explained) == len(set(explained))


def test_settings_that_a_page_shows_are_settings() -> None:
    shown = 0
    for path in PLAYED:
        for block in re.findall(r"^```toml\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            msgspec.convert(tomllib.loads(block), Settings)
            shown += 1
    assert shown


def scene_titles() -> list[str]:
    """What each scene of the demo is called in its source, up to the first thing that is put in."""
    tree = ast.parse(Path(story.__file__).read_text("utf-8"))
    calls = (
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    )
    titles = [call.args[0] for call in calls if call.func.attr == "scene"]
    parts = [title.values[0] if isinstance(title, ast.JoinedStr) else title for title in titles]
    found = [part.value for part in parts if isinstance(part, ast.Constant)]
    assert len(found) >= 8
    return found


def test_picture_shows_a_demo_in_which_every_scene_went_well_and_loads_nothing_from_elsewhere() -> None:
    drawing = (DOCS / "pictures" / "demo.svg").read_text("utf-8")
    said = " ".join(unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawing)).replace(
        "\xa0", " "
    )
    assert [title for title in scene_titles() if title not in said] == [], "run: docs/generate.py --picture"
    for code in ("VALID", "ENDPOINT_DENIED", "NETWORK_DENIED", "RATE_LIMITED", "USES_EXHAUSTED", "REVOKED"):
        assert code in said
    assert CODES[Code.ENDPOINT_DENIED].sentence in said
    assert "0 events came after that" in said and "0 problems" in said
    assert not re.search(r"@font-face|@import|href=|url\((?!#)", drawing)
