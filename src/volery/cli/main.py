"""The `volery` command: global options, the table of commands, and how errors become exit codes.

Imports are lazy, so that `volery --help` is quick; every command is one function in
`cli.commands`.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter, UnknownCommandError, UnusedCliTokensError

from volery import __version__
from volery.cli.session import Session
from volery.model.errors import EXIT, Code, VoleryError

SHIP = Group("From source to users", sort_key=1)
LOOK = Group("Looking", sort_key=2)
ACT = Group("Acting by hand", sort_key=3)
TOOLS = Group("Tools", sort_key=4)

EPILOGUE = """Exit codes: 0 done, 1 failed, 2 wrong usage or manifest, 3 rolled back,
4 weakness found, 5 inconclusive, 6 refused by a guardrail, 7 no control plane."""

COMMANDS: dict[str, tuple[str, Group, str]] = {
    "init": ("authoring:init", SHIP, "Write a manifest from what is there."),
    "check": ("authoring:check", SHIP, "Validate the manifest, lint its policies."),
    "plan": ("shipping:plan", SHIP, "Show what up or deploy would change."),
    "up": ("shipping:up", SHIP, "Bring the environment to what the manifest says."),
    "deploy": ("shipping:deploy", SHIP, "Build, test and roll out new releases."),
    "down": ("shipping:down", SHIP, "Stop everything; volumes are kept."),
    "status": ("looking:status", LOOK, "The environment at a glance."),
    "rollout": ("looking:rollout", LOOK, "One rollout: phase, weights, reason."),
    "releases": ("looking:releases", LOOK, "The releases of a service."),
    "events": ("looking:events", LOOK, "What happened and why."),
    "logs": ("looking:logs", LOOK, "What a service wrote."),
    "promote": ("acting:promote", ACT, "Let a paused rollout finish."),
    "pause": ("acting:pause", ACT, "Hold a rollout where it is."),
    "resume": ("acting:resume", ACT, "Let a paused rollout go on."),
    "abort": ("acting:abort", ACT, "Turn a rollout round."),
    "rollback": ("acting:rollback", ACT, "Back to an earlier release, at once."),
    "scale": ("acting:scale", ACT, "Set the number of instances."),
    "restart": ("acting:restart", ACT, "Replace every instance."),
    "demo": ("tools:demo", TOOLS, "A guided tour on a sample application."),
    "doctor": ("tools:doctor", TOOLS, "Check this machine."),
    "probe": ("tools:probe", TOOLS, "Send load and count every lost request."),
    "schema": ("authoring:schema", TOOLS, "The manifest's JSON Schema."),
    "version": ("tools:version", TOOLS, "The version."),
    "completion": ("tools:completion", TOOLS, "A completion script."),
}


SECRET = ("set", "list", "rm")


def build_app() -> App:
    """The command tree."""
    app = App(
        name="volery",
        help="Takes services from source to production and keeps them well there.",
        help_epilogue=EPILOGUE,
        version=__version__,
        default_parameter=Parameter(negative=()),
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for name, (target, group, text) in COMMANDS.items():
        app.command(f"volery.cli.commands.{target}", name=name, group=group, help=text)
    secret = App(name="secret", help="Secrets: encrypted at rest, never printed.", group=TOOLS)
    for name in SECRET:
        secret.command(f"volery.cli.commands.secrets:{name}_", name=name)
    secret.default(_which_of_secret)
    app.command(secret)
    app.meta.suppress_keyboard_interrupt = False
    app.meta.default(_launcher(app))
    return app


def _which_of_secret() -> int:
    raise VoleryError(
        f"secret does nothing alone: {', '.join(SECRET[:-1])} or {SECRET[-1]}",
        code=Code.INVALID,
        hint="volery secret --help",
    )


def _launcher(app: App) -> Any:
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        env: str | None = None,
        file: Path | None = None,
        output: Literal["text", "json"] = "text",
        yes: Annotated[bool, Parameter(negative=())] = False,
    ) -> int:
        """Parse what is common to all commands, then run one.

        Args:
            env: The environment; by default the manifest's first one.
            file: The manifest; by default volery.yaml here or in a folder above.
            output: text for people, json for scripts.
            yes: Answer questions with yes.
        """
        session = Session(env, file, output, yes)
        command, bound, ignored = app.parse_args(
            tokens or ["--help"], exit_on_error=False, print_error=False
        )
        extra = dict.fromkeys(ignored, session)
        result = command(*bound.args, **bound.kwargs, **extra)
        return result if isinstance(result, int) else 0

    return launch


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    json = _wants_json(arguments)
    try:
        app = build_app()
        found = app.meta(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
        return found if isinstance(found, int) else 0
    except VoleryError as error:
        return _say(error, json)
    except CycloptsError as error:
        return _say(_misused(error), json)
    except KeyboardInterrupt:
        print("\ninterrupted; what was begun goes on (volery status)", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except Exception as error:  # noqa: BLE001 - the last resort: one line, the story in a file
        return _say(_unexpected(error), json)


def _wants_json(arguments: list[str]) -> bool:
    """Asked for JSON, as far as can be said before the arguments are parsed."""
    pairs = pairwise(arguments)
    return "--output=json" in arguments or ("--output", "json") in pairs


def _misused(error: CycloptsError) -> VoleryError:
    """A wrong command line in one line, with the nearest command where one was mistyped."""
    words = [word for word in error.command_chain or () if word != "volery"]
    help_ = " ".join(["volery", *words, "--help"])
    wrong = next(iter(error.unused_tokens or ()), "")
    group = words == ["secret"]
    if isinstance(error, UnknownCommandError) or (group and wrong):
        from difflib import get_close_matches

        known = SECRET if group else (*COMMANDS, "secret")
        near = get_close_matches(wrong, known, 1)
        hint = f"did you mean {' '.join([*words, near[0]])}?" if near else help_
        return VoleryError(f"no command {wrong!r}", code=Code.INVALID, hint=hint)
    if words == ["secret", "set"] and wrong:  # perhaps its value: it is not said again
        return VoleryError(
            "a secret's value must not be on the command line, where others can see it",
            code=Code.INVALID,
            hint="volery secret set NAME < file",
        )
    if wrong and isinstance(error, UnusedCliTokensError):
        return VoleryError(f"one word too many: {wrong!r}", code=Code.INVALID, hint=help_)
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return VoleryError(text, code=Code.INVALID, hint=help_)


def _say(error: VoleryError, json: bool) -> int:
    from volery.cli.show.errors import show_error

    show_error(error, json)
    return EXIT[error.code]


def _unexpected(error: Exception) -> VoleryError:
    """A defect of ours: one line, and where the whole story is."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="volery-crash-", suffix=".txt", delete=False
    ) as file:
        traceback.print_exception(error, file=file)
    return VoleryError(
        f"unexpected {type(error).__name__}: {error}",
        hint=f"this is a defect of Volery; please report it with {file.name}",
    )
