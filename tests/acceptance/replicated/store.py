"""A tiny replicated store, as a service for tests: a log of numbers, one writer, its readers.

Standard library only; one line a message. To a client: `SET n` -> `OK n` once it is on disk and one
replica has it as well, `GET` -> `COUNT n LAST n ROLE r`, `ALL` -> every number. To a replica:
`STREAM length last-term` -> `HELLO term length` or `RESET term`, then entries, each answered by
`ACK length`. `ROLE`, `PROMOTE term` and `DEMOTE` are for the commands of its manifest.

A write is acknowledged only with a replica's acknowledgement, and a replica that has heard of a
newer term acknowledges nothing of an older one: a former primary that lives on can lose nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

VOLUME = Path(os.environ["VOLERY_VOLUME"])
ALONE = os.environ.get("ALONE") == "1"
STALL = float(os.environ.get("BACK_AFTER", "0"))
LEAVE_SECONDS = 2.0


class Store:
    """The log in memory and on disk, and who has how much of it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.entries: list[tuple[int, int]] = []
        self.log = VOLUME / "log"
        if self.log.exists():
            lines = self.log.read_text().split("\n")[:-1]
            self.entries = [(int(t), int(n)) for t, _, n in (line.partition(" ") for line in lines)]
        self.marker = VOLUME / "syncing"
        stored = self._stored_term()
        given = int(os.environ["VOLERY_TERM"])
        self.primary = os.environ["VOLERY_ROLE"] == "primary" or stored > given
        self.term = max(stored, given, self.last_term)
        self.leaving = False
        self.behind = self.marker.exists() and not self.primary
        self.acked: dict[int, int] = {}
        if self.entries and self.primary:
            time.sleep(STALL)
        self.log.open("a").close()

    def _stored_term(self) -> int:
        file = VOLUME / "term"
        return int(file.read_text()) if file.exists() else 0

    @property
    def last_term(self) -> int:
        return self.entries[-1][0] if self.entries else 0

    @property
    def role(self) -> str:
        if self.primary:
            return "primary"
        return "syncing" if self.behind else "replica"

    def append(self, entry: tuple[int, int]) -> int:
        """On disk when it returns, as far as a kill goes; the length of the log."""
        with self.log.open("a") as file:  # kept open, nobody could make its disk read-only
            file.write(f"{entry[0]} {entry[1]}\n")
        self.entries.append(entry)
        self.changed.notify_all()
        return len(self.entries)

    def reset(self) -> None:
        """Take everything anew: what is here is not what the primary has."""
        self.marker.touch()
        self.behind = True
        self.log.write_text("")
        self.entries = []

    def write(self, number: int) -> bool:
        """Whether it is on two disks."""
        with self.changed:
            if not self.primary or self.leaving:
                return False
            length = self.append((self.term, number))
            return self.changed.wait_for(
                lambda: (
                    ALONE or any(have >= length for have in self.acked.values()) or not self.primary
                ),
                timeout=30,
            )

    def promote(self, term: int) -> None:
        (VOLUME / "term.new").write_text(str(term))
        (VOLUME / "term.new").rename(VOLUME / "term")
        with self.changed:
            self.primary, self.term = True, max(self.term, term)
            self.changed.notify_all()

    def leave(self) -> None:
        """No new writes; wait a while until a replica has everything."""
        with self.changed:
            self.leaving = True
            whole = len(self.entries)
            self.changed.wait_for(
                lambda: not self.acked or any(have >= whole for have in self.acked.values()),
                timeout=LEAVE_SECONDS,
            )


STORE: Store
"""Only in the instance itself, not in the commands beside it."""


class Talk:
    """A connection, by lines. Reading and writing are two files: one for both would throw away what
    was read ahead whenever something is written."""

    def __init__(self, connection: socket.socket) -> None:
        self.lines = connection.makefile("r")
        self._out = connection.makefile("w")

    def say(self, *texts: str) -> bool:
        self._out.write("".join(f"{text}\n" for text in texts))
        self._out.flush()
        return True

    def words(self) -> list[str]:
        return self.lines.readline().split()


def serve(connection: socket.socket) -> None:
    with connection:
        talk = Talk(connection)
        try:
            for line in talk.lines:
                if not answer(talk, line.split()):
                    break
        except (OSError, ValueError):
            pass
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def answer(talk: Talk, words: list[str]) -> bool:
    """Whether the connection goes on."""
    match words:
        case ["SET", number]:
            done = STORE.write(int(number))
            return talk.say(f"OK {number}" if done else "NO") and done
        case ["GET"]:
            last = STORE.entries[-1][1] if STORE.entries else 0
            return talk.say(f"COUNT {len(STORE.entries)} LAST {last} ROLE {STORE.role}")
        case ["ALL"]:
            return talk.say(" ".join(str(number) for _, number in STORE.entries))
        case ["ROLE"]:
            return talk.say(f"{STORE.role} {len(STORE.entries)}")
        case ["PROMOTE", term]:
            STORE.promote(int(term))
            return talk.say("OK")
        case ["DEMOTE"]:
            STORE.leave()
            return talk.say("OK")
        case ["STREAM", length, term]:
            stream(talk, int(length), int(term))
            return False
    return False


def stream(talk: Talk, length: int, term: int) -> None:
    """Send a replica what it lacks, as long as it listens."""
    if not STORE.primary:
        return
    mine = STORE.entries
    if length > len(mine) or (length and mine[length - 1][0] != term):
        talk.say(f"RESET {STORE.term}")
        return
    talk.say(f"HELLO {STORE.term} {len(mine)}")
    key = id(talk)
    threading.Thread(target=hear, args=(talk, key), daemon=True).start()
    with STORE.changed:
        STORE.acked[key] = length
    sent = length
    while key in STORE.acked:
        with STORE.changed:
            if len(STORE.entries) <= sent:
                STORE.changed.wait(1)
            more = STORE.entries[sent:]
        talk.say(*(f"E {entry[0]} {entry[1]}" for entry in more))
        sent += len(more)


def hear(talk: Talk, key: int) -> None:
    """Take note of what a replica has."""
    try:
        for line in talk.lines:
            with STORE.changed:
                STORE.acked[key] = int(line.split()[1])
                STORE.changed.notify_all()
    except (OSError, ValueError):
        pass
    with STORE.changed:
        STORE.acked.pop(key, None)
        STORE.changed.notify_all()


def follow() -> None:
    """Stream from whoever is the primary, for ever."""
    own = urlsplit(os.environ[os.environ["VOLERY_SERVICE"].upper().replace("-", "_") + "_URL"])
    while True:
        if not STORE.primary:
            try:
                with socket.create_connection((own.hostname, own.port), timeout=2) as source:
                    source.settimeout(None)
                    replicate(source)
            except (OSError, ValueError, IndexError):
                pass
        time.sleep(0.05)


def replicate(source: socket.socket) -> None:
    talk = Talk(source)
    talk.say(f"STREAM {len(STORE.entries)} {STORE.last_term}")
    hello = talk.words()
    term = int(hello[1])
    with STORE.changed:
        if STORE.primary or term < STORE.term:
            return None
        STORE.term = term
        if hello[0] == "RESET":
            return STORE.reset()
        goal = int(hello[2])
        STORE.behind = STORE.marker.exists() or len(STORE.entries) < goal
    while True:
        with STORE.changed:
            if STORE.behind and len(STORE.entries) >= goal:
                STORE.behind = False
                STORE.marker.unlink(missing_ok=True)
        words = talk.words()
        with STORE.changed:
            if not words or STORE.primary or term < STORE.term:
                return None
            length = STORE.append((int(words[1]), int(words[2])))
        talk.say(f"ACK {length}")


def stop(*_: object) -> None:
    def end() -> None:
        STORE.leave()
        os._exit(0)

    threading.Thread(target=end).start()


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    listener = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])), backlog=128)
    print(f"{STORE.role} in term {STORE.term} with {len(STORE.entries)}", flush=True)
    threading.Thread(target=follow, daemon=True).start()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def ask(*words: str) -> str:
    """For the commands of the manifest: ask the instance they run beside."""
    address = os.environ["HOST"], int(os.environ["PORT"])
    with socket.create_connection(address, timeout=5) as connection:
        talk = Talk(connection)
        talk.say(" ".join(words))
        return " ".join(talk.words())


def command(verb: str) -> int:
    mode = VOLUME / "role-mode"  # how a test makes the role command misbehave
    if verb == "role":
        if mode.exists():
            misbehave(mode.read_text().strip())
        print(ask("ROLE"))
        return 0
    if verb == "promote":
        return 0 if ask("PROMOTE", os.environ["VOLERY_TERM"]) == "OK" else 1
    if verb == "backup" and (VOLUME / "backup-fails").exists():
        return 1
    if verb == "backup":
        (VOLUME / "backup").write_text(str(len((VOLUME / "log").read_text())))
        return 0
    return 0 if ask("DEMOTE") == "OK" else 1


def misbehave(how: str) -> None:
    if how == "hang":
        time.sleep(1000)
    if how == "rubbish":
        print("\x00\xff I am the walrus")
        sys.exit(0)
    if how == "megabytes":
        sys.stdout.write("primary" * 10_000_000)
        sys.exit(0)
    if how == "lie":
        print("primary 999999999")
        sys.exit(0)
    if how == "fail":
        sys.exit(3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(command(sys.argv[1]))
    STORE = Store()
    main()
