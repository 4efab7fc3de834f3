"""init, check, schema: writing the manifest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volery.cli.session import Given
from volery.model.errors import Code, VoleryError


def init(
    folder: Path = Path(),
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    session: Given,
) -> int:
    """Write a manifest from what is there: compose.yaml, Procfile, Dockerfile, package.json, ...

    Parameters
    ----------
    folder: Where to look and to write.
    dry_run: Print it instead.
    """
    from volery.manifest.init import detect, render

    target = session.file or folder / "volery.yaml"
    if target.exists() and not dry_run:
        raise VoleryError(f"{target} exists already", code=Code.REFUSED, hint="volery check")
    draft = detect(folder)
    text = render(draft)
    if session.json:
        session.emit({"manifest": text, "found": list(draft.found), "guessed": list(draft.guessed)})
    elif dry_run:
        print(text, end="")
    if dry_run:
        return 0
    _write(target, text)
    for line in (*draft.found, *draft.guessed):
        print(line, file=sys.stderr)
    if not session.json:
        print(f"wrote {target}; next: volery check, then volery up")
    return 0


def _write(target: Path, text: str) -> None:
    from volery.manifest.schema import json_schema

    try:
        target.write_text(text)
        schema = target.parent / ".volery" / "schema.json"
        schema.parent.mkdir(exist_ok=True)
        schema.write_text(json.dumps(json_schema(), indent=2) + "\n")
    except OSError as error:
        raise VoleryError(f"cannot write {target}: {error.strerror}") from None


def check(*, session: Given) -> int:
    """Validate the manifest, lint its policies, and say what is not active yet."""
    from volery.manifest.lint import lint

    findings = lint(session.application.in_environment(session.environment))
    if session.json:
        session.emit(
            {
                "ok": True,
                "findings": [
                    {"severity": item.severity, "path": item.path, "message": item.message}
                    for item in findings
                ],
            }
        )
        return 0
    for item in findings:
        print(f"{item.severity}: {item.path}: {item.message}")
    count = len(session.application.services)
    print(f"{session.path} is valid: {count} service{'s' if count != 1 else ''}")
    return 0


def schema() -> int:
    """Print the JSON Schema of the manifest, for editors."""
    from volery.manifest.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
