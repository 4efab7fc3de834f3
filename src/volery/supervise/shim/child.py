"""From a command to a running program: forked, held until that is on disk, then executed."""

# Importing pathlib would cost a third of the time to start.
# ruff: noqa: PTH110, PTH113, PTH118, PTH119
from __future__ import annotations

import errno
import os
import re
import resource
import signal

TYPE_CHECKING = False  # typing would cost as much
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Spec = dict[str, Any]

SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh"}
NAMED = ("--rcfile", "--init-file")
"""Options of a shell that take another word, besides `-o` and `-O`."""
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


class NotStarted(Exception):
    """Why a program could not be executed, for the person who wrote the command."""


def expand(words: list[str], environment: dict[str, str]) -> list[str]:
    """Replace $NAME and ${NAME}, nothing else; a shell given its script does that by itself."""
    end = _script_at(words)
    ours = (
        _VARIABLE.sub(lambda m: environment.get(m[1] or m[2], ""), word) for word in words[:end]
    )
    return [*ours, *words[end:]]


def _script_at(words: list[str]) -> int:
    """Where the script of a shell begins, also of one that another command starts (`timeout 9 sh -c
    SCRIPT`); their number if there is none."""
    for shell, name in enumerate(words):
        if os.path.basename(name) not in SHELLS:
            continue
        at, scripted = shell + 1, False
        while at < len(words) and words[at][:1] in ("-", "+"):
            letters = "" if words[at].startswith("--") else words[at][1:]
            scripted = scripted or (words[at][0] == "-" and "c" in letters)
            named = "o" in letters.lower() or words[at] in NAMED
            at += 2 if named else 1
        if scripted:
            return at
    return len(words)


def locate(word: str, path: str) -> str:
    """The file to execute for a command, as execvp would find it; "" if there is none."""
    if "/" in word:
        return word
    candidates = (os.path.join(folder, word) for folder in path.split(":"))
    return next((c for c in candidates if os.path.isfile(c) and os.access(c, os.X_OK)), "")


def why_not_started(error: OSError, program: str, name: str) -> str:
    """In a few words. `name` is the command as it was written: expanded, it may hold a secret."""
    match error.errno:
        case errno.ENOENT if os.path.exists(program):
            return f"the interpreter named in the first line of {name} does not exist"
        case errno.ENOENT:
            return f"command not found: {name}"
        case errno.EACCES:
            return f"not executable: {name}"
        case errno.ENOEXEC:
            return f"neither a program nor a script that begins with #!: {name}"
        case _:
            return f"cannot run {name}: {error.strerror}"


class Command:
    """What to execute: as written, and with its variables replaced."""

    __slots__ = ("environment", "name", "words")

    def __init__(self, words: list[str], environment: dict[str, str], expanding: bool) -> None:
        self.name = words[0]
        self.words = expand(words, environment) if expanding else words
        self.environment = environment

    def execute(self) -> NoReturn:
        """Become it."""
        program = locate(self.words[0], self.environment.get("PATH", os.defpath))
        try:
            os.execve(program, self.words, self.environment)  # noqa: S606 - the point of it all
        except OSError as error:
            raise NotStarted(why_not_started(error, program, self.name)) from None


class Held:
    """A forked process that waits, before it becomes the service, until it is known on disk."""

    def __init__(self, spec: Spec, command: Command, log: int) -> None:
        hold, self._go = os.pipe2(os.O_CLOEXEC)
        self._errors, errors = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = os.fork()
        except OSError as error:
            for fd in (hold, self._go, self._errors, errors):
                os.close(fd)
            raise NotStarted(f"cannot start a process: {error.strerror}") from None
        if self.pid == 0:
            os.close(self._go)
            _become(spec, command, (hold, log, errors))
        os.close(hold)
        os.close(errors)

    def release(self) -> str:
        """Let it go on. "" once it runs its program, else why it does not."""
        with os.fdopen(self._go, "wb", buffering=0) as go:
            try:
                go.write(b"g")
            except BrokenPipeError:  # killed while held: it will be reaped like any other
                os.close(self._errors)
                return ""
        with os.fdopen(self._errors, "rb") as errors:
            return errors.read().decode(errors="replace")


def _become(spec: Spec, command: Command, fds: tuple[int, int, int]) -> NoReturn:
    hold, log, errors = fds
    try:
        os.setsid()
        if os.read(hold, 1):
            _prepare(spec, log)
            command.execute()
    except (OSError, ValueError, NotStarted) as error:
        os.write(errors, str(error).encode(errors="replace"))
    finally:
        os._exit(127)


def _prepare(spec: Spec, log: int) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, services must not
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    files = int(spec["limits"].get("files", 0))
    if files and may_open(files):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    try:
        os.chdir(spec["cwd"])
    except OSError as error:
        raise NotStarted(f"cannot enter {spec['cwd']}: {error.strerror}") from None


def may_open(files: int) -> bool:
    """Whether this limit can be set; above our own only the kernel knows, so it is asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files <= hard or hard == resource.RLIM_INFINITY:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, files))
    except (OSError, ValueError, OverflowError):
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return True
