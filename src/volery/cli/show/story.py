"""The story of a service: chapters with what was seen, decided and done, and how each ended."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from volery.cli.show.console import out

Json = dict[str, Any]


def show_story(found: Json) -> None:
    """Every chapter, the newest last."""
    for index, chapter in enumerate(found["chapters"]):
        if index:
            out().print()
        name = "" if chapter["about"] in ("service", "guard", "handover") else f"{chapter['id']} "
        outcome = f"  [bold]{chapter['outcome']}[/]" if chapter["outcome"] else ""
        title = escape(f"{chapter['about']} {name}{chapter['title']}")
        out().print(f"{chapter['began']}  {title}{outcome}", highlight=False)
        for sentence in chapter["sentences"]:
            line = f"    {sentence['at'][11:23]}  {sentence['part']:8}{sentence['text']}"
            out().print(line, markup=False, highlight=False)
    if not found["chapters"]:
        out().print(f"nothing is known of {found['service']}", markup=False)
