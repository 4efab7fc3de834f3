"""The documentation against the product: links lead somewhere, manifests are valid, commands exist.

What a page shows as a manifest is read by the same YAML reader and the same model as a real one.
Commands and folders need not exist on this machine.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from volery.cli.overview import COMMANDS, GROUPS
from volery.manifest import references
from volery.manifest.tree import data
from volery.manifest.yaml12 import compose
from volery.model.application import Application
from volery.model.fields import WRITTEN

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "docs", ROOT / "examples")
PAGES = sorted([*ROOT.glob("*.md"), *(page for place in FOLDERS for page in place.rglob("*.md"))])
KNOWN = {*COMMANDS, *GROUPS, "secret"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
GLOBAL_WITH_VALUE = {"--env", "--file", "--output"}


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a page in one language."""
    return (text for kind, text in FENCE.findall(page.read_text()) if kind == language)


def links(page: Path) -> Iterator[str]:
    """The relative links of a page, outside of code."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    return (found for found in LINK.findall(text) if "://" not in found)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as a link calls them."""
    titles = HEADING.findall(FENCE.sub("", page.read_text()))
    words = (re.sub(r"[^\w\s-]", "", title.lower()) for title in titles)
    return {re.sub(r"\s", "-", title.strip()) for title in words}


def dead(page: Path) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def typed(script: str) -> Iterator[str]:
    """Each `volery` command word in a script, wherever a command may stand."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for place, word in enumerate(words):
            if word.rpartition("/")[2] == "volery" and "=" not in word:
                yield _command(words[place + 1 :])


def _command(words: list[str]) -> str:
    rest = iter(words)
    for word in rest:
        if word in GLOBAL_WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return ""


def name(page: Path) -> str:
    """How a page is called in the tests' names."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(dead(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_manifests_are_valid(page: Path) -> None:
    for text in blocks(page, "yaml"):
        if text.startswith("app:"):
            tree, mistakes = compose(text.encode(), name(page))
            assert tree is not None and not mistakes, mistakes
            application = Application.model_validate(data(tree), context=WRITTEN)
            problems = references.problems(application, list(application.services))
            assert [problem.message for problem in problems] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    for script in blocks(page, "sh"):
        assert set(typed(script)) <= KNOWN, script


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    shown = {(index.parent / link).resolve() for link in links(index)}
    pages = {page.resolve() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    missing = {page for page in pages - shown - {index.resolve()} if page.parent not in shown}
    assert not missing


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing\n[a](page.md#one-thing) [b](nowhere.md) [c](#other) `[d](no.md)`\n"
        "```sh\nA=1 .venv/bin/volery --env x frob y && volery -h\n```\n"
    )
    assert list(dead(page)) == ["nowhere.md", "#other"]
    assert [list(typed(script)) for script in blocks(page, "sh")] == [["frob", ""]]
