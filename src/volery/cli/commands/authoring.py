"""init, check, schema: writing the manifest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from volery.cli.session import Given


def init(
    folder: Path = Path(),
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    session: Given,
) -> int:
    """Write a manifest from what is there: compose.yaml, Procfile, Dockerfile, package.json, ...

    Args:
        folder: Where to look, and to write if there is no --file.
        dry_run: Print it instead.
    """
    from volery.manifest.init import detect, render, seen_from, write

    target = session.file or folder / "volery.yaml"
    draft = detect(folder)
    if session.file:
        draft = seen_from(draft, folder, target)
    if not dry_run:
        write(target, draft)
    if session.json:
        said = {"found": draft.found, "guessed": draft.guessed, "notes": draft.notes}
        session.emit({"manifest": render(draft)} | said)
    elif dry_run:
        print(render(draft), end="")
    for line in (*draft.found, *draft.guessed, *draft.notes):
        print(line, file=sys.stderr)
    if not (session.json or dry_run):
        print(f"wrote {target}; next: volery check, then volery up")
    return 0


def check(*, session: Given) -> int:
    """Validate the manifest, lint its policies, and say what is not active yet.

    Also which secrets are not set on this machine yet.
    """
    from volery.manifest.finding import as_written
    from volery.manifest.lint import lint, unset_secrets
    from volery.manifest.read import places

    application = session.application.in_environment(session.environment)
    findings = (*unset_secrets(application, session.secrets_set()), *lint(application))
    here = application.environments[session.environment]
    written = dict.fromkeys(as_written(item, session.environment, here) for item in findings)
    mark = places(session.path)
    found = [(item, mark(item.at)) for item in written]
    if session.json:
        session.emit(
            {
                "ok": True,
                "findings": [
                    {"severity": item.severity, "path": item.path, "message": item.message}
                    | {"file": at.file, "line": at.line, "column": at.column}
                    for item, at in found
                ],
            }
        )
        return 0
    for item, at in found:
        print(f"{at.file}:{at.line}:{at.column}: {item.severity}: {item.path}: {item.message}")
    count = len(session.application.services)
    print(f"{session.path} is valid: {count} service{'s' if count != 1 else ''}")
    return 0


def schema() -> int:
    """Print the JSON Schema of the manifest, for editors."""
    from volery.manifest.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
