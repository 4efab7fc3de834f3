"""The command line, built from the table of commands and parsed; see `overview` for the table."""

from __future__ import annotations

from importlib import import_module
from inspect import BoundArguments
from inspect import Parameter as PyParameter
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter, UnknownCommandError, UnusedCliTokensError

from volery import __version__
from volery.cli.overview import (
    ABOUT_SECRETS,
    COMMANDS,
    EPILOGUE,
    GROUPS,
    HEADINGS,
    HELP,
    OPTIONS,
    SECRET,
    TOOLS,
    overview,
)
from volery.cli.session import Session
from volery.cli.versions import of_another_version
from volery.model.errors import Code, VoleryError

_GROUPS = {heading: Group(heading, sort_key=number) for number, heading in enumerate(HEADINGS, 1)}


def invoke(arguments: list[str]) -> int:
    """Run the command that these are; its exit code.

    Raises:
        VoleryError: it failed, or there is no such command.
    """
    app = build_app()
    try:
        found = app.meta(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        raise _misused(error) from None
    return found if isinstance(found, int) else 0


def build_app() -> App:
    """The command tree."""
    app = App(
        name="volery",
        help=HELP,
        help_epilogue=EPILOGUE,
        version=__version__,
        default_parameter=Parameter(negative=()),
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    for name, (target, heading, _) in COMMANDS.items():
        app.command(f"volery.cli.commands.{target}", name=name, group=_GROUPS[heading])
    secret = App(name="secret", help=ABOUT_SECRETS, group=_GROUPS[TOOLS])
    _add(secret, "secrets", SECRET)
    secret.default(_which_of_secret)
    app.command(secret)
    for name, (module, heading, below, _) in GROUPS.items():
        app.command(_group(name, module, _GROUPS[heading], below))
    app.meta.suppress_keyboard_interrupt = False
    app.meta.default(_launcher(app))
    return app


def _group(name: str, module: str, group: Group, below: tuple[str, ...]) -> App:
    found = App(name=name, group=group)
    found.default(_add(found, module, below).list_)
    return found


def _add(app: App, module: str, verbs: tuple[str, ...]) -> ModuleType:
    """These functions of a module as commands below one. A name would be loaded when it is used,
    and the help of the one above would say nothing of it."""
    found = import_module(f"volery.cli.commands.{module}")
    for verb in verbs:
        app.command(getattr(found, f"{verb}_"), name=verb)
    return found


def _which_of_secret() -> int:
    raise VoleryError(
        f"secret does nothing alone: {', '.join(SECRET[:-1])} or {SECRET[-1]}",
        code=Code.INVALID,
        hint="volery secret --help",
    )


def _launcher(app: App) -> Any:
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        env: Annotated[str | None, Parameter(help=OPTIONS["env"])] = None,
        file: Annotated[Path | None, Parameter(help=OPTIONS["file"])] = None,
        output: Annotated[Literal["text", "json"], Parameter(help=OPTIONS["output"])] = "text",
        yes: Annotated[bool, Parameter(negative=(), help=OPTIONS["yes"])] = False,
    ) -> int:
        """Parse what is common to all commands, then run one."""
        if not tokens and output == "json":
            raise VoleryError("which command?", code=Code.INVALID, hint="volery --help")
        if not tokens:
            print(overview())
            return 0
        session = Session(env, file, output, yes)
        command, bound, ignored = app.parse_args(tokens, exit_on_error=False, print_error=False)
        extra = dict.fromkeys(ignored, session)
        _tidy(bound)
        try:
            result = command(*bound.args, **bound.kwargs, **extra)
        except Exception as error:
            other = of_another_version(error, session)
            if other is None:
                raise
            raise other from error
        return result if isinstance(result, int) else 0

    return launch


def _tidy(bound: BoundArguments) -> None:
    """Shells complete a service's name to that of its folder, with a slash at the end; a variable
    of a script that is not set leaves an empty word.

    Raises:
        VoleryError: INVALID, a word is empty.
    """
    for name, given in bound.arguments.items():
        words = given if isinstance(given, tuple) else (given,)
        if "" in words:
            option = bound.signature.parameters[name].kind is PyParameter.KEYWORD_ONLY
            shown = f"--{name.rstrip('_')}" if option else name.upper()
            raise VoleryError(
                f"{shown} is empty", code=Code.INVALID, hint="is a variable not set that is used?"
            )
        if name in ("service", "services", "why"):
            tidied = tuple(word.rstrip("/") if word else word for word in words)
            bound.arguments[name] = tidied if isinstance(given, tuple) else tidied[0]


def _misused(error: CycloptsError) -> VoleryError:
    """A wrong command line in one line, with the nearest command where one was mistyped."""
    words = [word for word in error.command_chain or () if word != "volery"]
    help_ = " ".join(["volery", *words, "--help"])
    wrong = next(iter(error.unused_tokens or ()), "")
    group = words == ["secret"]
    if isinstance(error, UnknownCommandError) or (group and wrong):
        from difflib import get_close_matches

        known = SECRET if group else (*COMMANDS, *GROUPS, "secret")
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
