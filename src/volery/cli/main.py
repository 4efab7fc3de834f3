"""The `volery` command: how errors become one line and an exit code.

Imports are lazy, so that `volery --help` is quick: the table of commands is in `cli.overview`, what
parses them in `cli.commandline`, and every command is one function in `cli.commands`.
"""

from __future__ import annotations

import errno
import os
import sys
from itertools import pairwise

from volery.cli.overview import overview
from volery.model.errors import EXIT, Code, VoleryError

NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
ONLY_LOOKS = ("-f", "--follow", "-w", "--watch")
ASKS_FOR_ALL: tuple[list[str], ...] = ([], ["--help"], ["-h"])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    json = _wants_json(arguments)
    _open_closed_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except VoleryError as error:
        return _say(error, json)
    except KeyboardInterrupt as interrupt:
        print(_interrupted(interrupt, arguments), file=sys.stderr)
        return 130
    except BrokenPipeError:
        _write_no_more(1, 2)
        return 141
    except OSError as error:
        return _say(_unwritten(error) or _forbidden(error) or _unexpected(error), json)
    except Exception as error:  # noqa: BLE001 - the last resort: one line, the story in a file
        return _say(_unexpected(error), json)


def _run(arguments: list[str]) -> int:
    if arguments in ASKS_FOR_ALL:
        print(overview())
        return 0
    from volery.cli.commandline import invoke

    return invoke(arguments)


def _interrupted(interrupt: KeyboardInterrupt, arguments: list[str]) -> str:
    """What became of what was asked for: whoever was asked something says it with the interrupt."""
    if any(word in ONLY_LOOKS for word in arguments):
        return ""
    said = str(interrupt) or "what was begun goes on (volery status)"
    return f"\ninterrupted; {said}"


def _open_closed_streams() -> None:
    """Some that run commands close what they do not use: nothing comes from there, and what goes
    there is lost."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _unwritten(error: OSError) -> VoleryError | None:
    """Where the output goes it cannot be written; None if the error is about something else."""
    if error.filename is not None or error.errno not in NOT_WRITTEN:
        return None
    _write_no_more(1)
    return VoleryError(
        f"cannot write the output: {error.strerror}", hint="write it to where there is room"
    )


def _write_no_more(*descriptors: int) -> None:
    """What is left is not tried again at the end, where it would fail once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)


def _forbidden(error: OSError) -> VoleryError | None:
    """A file of another user is in the way; None if the error is about something else."""
    if not isinstance(error, PermissionError) or error.filename is None:
        return None
    place = os.fsdecode(error.filename)
    return VoleryError(
        f"{place}: {error.strerror}", code=Code.REFUSED, hint=f"ls -ld {place}: whose is it?"
    )


def _wants_json(arguments: list[str]) -> bool:
    """Asked for JSON, as far as can be said before the arguments are parsed."""
    pairs = pairwise(arguments)
    return "--output=json" in arguments or ("--output", "json") in pairs


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
