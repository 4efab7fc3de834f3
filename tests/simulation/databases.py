"""A simulated replicated database: an engine whose instances have disks, roles, lag and hooks.

Each place has a disk: entries of (term, number), and the term of its own last promotion. A process
believes to be primary or replica. A write is acknowledged when a replica that follows the primary
has it too (any one of them). Roles are asked on virtual time, and the answers may be late, rubbish,
flapping or lies; hooks may hang, fail, or take effect and fail all the same. At most one living
process may believe that it is the primary, at every moment: that is checked whenever one begins to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from simulation.adapters import Behaviour, Process, SimEngine, SimTraffic, Timeline, Violation
from volery.model.errors import VoleryError
from volery.model.ports import Answer, InstanceSpec, RoleWatch, SideCommand

Entry = tuple[int, int]
STREAM_SECONDS = 0.05
BAD_SECONDS = 5.0
"""A volume may go bad between the decision for an instance and its promotion, but not so long."""


@dataclass
class Disk:
    """What survives."""

    entries: list[Entry] = field(default_factory=list)
    system: int = 0
    """Data of different systems has nothing in common, and nobody follows another one's."""
    emptied: bool = False
    term: int = 0
    syncing: bool = False
    bad_since: float | None = None
    """Since when it cannot be written."""


@dataclass
class Mind:
    """What one process believes."""

    process: Process
    epoch: int
    primary: bool
    term: int
    frozen: bool = False
    demoted: bool = False
    """It takes no writes until its next start."""
    lag: bool = False
    follows: str = ""


class DatabaseEngine(SimEngine):
    """Instances of a replicated database."""

    def __init__(self, line: Timeline, behaviour: Callable[[str], Behaviour]) -> None:
        super().__init__(line, behaviour)
        self.disks: dict[str, Disk] = {}
        self.minds: dict[str, Mind] = {}
        self.modes: dict[str, str] = {}
        """How an instance answers: hang, rubbish, flap or lie; absent: well."""
        self.hooks = "well"
        self.traffic: SimTraffic | None = None
        self.acknowledged: list[Entry] = []
        self.written = 0
        self.promotions: list[tuple[float, str, int]] = []
        self.watches: dict[str, RoleWatch] = {}

    # --- life ---

    def start(self, spec: InstanceSpec) -> None:
        known = spec.id in self.processes
        if not known and self._bad(spec.id):
            raise VoleryError(f"its volume is read-only: {spec.id}")
        super().start(spec)
        if not known:
            self._unsure(spec.id)
            self.line.after(0.05, lambda: self._ask(spec.id, self.processes.get(spec.id)))

    def _set(self, identity: str, **changes: object) -> None:
        super()._set(identity, **changes)
        if changes.get("state") == "ready":
            self._begin(identity)
        elif changes.get("state") in ("exited", "starting"):
            self.minds.pop(identity, None)
            self._unsure(identity)

    def _begin(self, identity: str) -> None:
        """As its start script decides: by what it was told, and by its own last promotion."""
        process, disk = self.processes[identity], self.disks.setdefault(identity, Disk())
        told = int(process.spec.environment["VOLERY_TERM"])
        primary = process.spec.environment["VOLERY_ROLE"] == "primary" or disk.term > told
        last = disk.entries[-1][0] if disk.entries else 0
        if disk.emptied and not primary:  # what it wrote meanwhile is worth nothing
            disk.entries, disk.emptied = [], False
        if not (disk.entries or primary):  # it has everything to take in yet
            disk.syncing = True
        self.minds[identity] = Mind(process, process.epoch, False, max(told, disk.term, last))
        if primary:
            self._become_primary(identity)

    def _become_primary(self, identity: str) -> None:
        for other, mind in self.minds.items():
            if other != identity and mind.primary and self._living(other):
                raise Violation(f"{identity} is a primary beside {other}")
        self.minds[identity].primary = True
        self.disks[identity].syncing = False

    def _living(self, identity: str) -> bool:
        process = self.processes.get(identity)
        return process is not None and process.seen.state != "exited"

    def empty(self, identity: str) -> None:
        """Its volume is emptied: whoever starts on it makes a new system."""
        self.disks[identity] = Disk(system=self.disks[identity].system + 1, emptied=True)

    def freeze(self, identity: str, frozen: bool) -> None:
        """SIGSTOP and SIGCONT."""
        if identity in self.minds:
            self.minds[identity].frozen = frozen

    def spoil(self, identity: str, bad: bool) -> None:
        """Its volume becomes read-only, or can be written again."""
        disk = self.disks.setdefault(identity, Disk())
        disk.bad_since = self.line.time if bad else None
        process = self.processes.get(identity)
        if process is not None:
            process.seen = replace(process.seen, volume="is read-only" if bad else "")
            self.wake()

    def _bad(self, identity: str) -> bool:
        disk = self.disks.get(identity)
        return disk is not None and disk.bad_since is not None

    # --- roles ---

    def watch_roles(self, services: object) -> None:
        self.watches = dict(services)  # type: ignore[call-overload]

    def _unsure(self, identity: str) -> None:
        process = self.processes.get(identity)
        if process is not None and process.seen.unsure_since is None:
            process.seen = replace(process.seen, unsure_since=self.line.time, role=None)

    def _ask(self, identity: str, process: Process | None) -> None:
        if process is None or self.processes.get(identity) is not process:
            return
        asked, often = self.line.time, self.watches.get(process.spec.service, RoleWatch(0)).often
        mind, mode = self.minds.get(identity), self.modes.get(identity, "well")
        if mode == "flap":
            mode = self.line.random.choice(["well", "rubbish"])
        late = mode == "hang" or mind is None or mind.frozen
        took = 1.0 if late else self.line.random.uniform(0.01, 0.1)

        def answered() -> None:
            if self.processes.get(identity) is process:
                now = self.minds.get(identity)
                good = now is mind and mind is not None and not late and mode in ("well", "lie")
                self._note(identity, asked, mode) if good else self._unsure(identity)
                self.wake()
                self.line.after(0.1 if often else 1.0, lambda: self._ask(identity, process))

        self.line.after(took, answered)

    def _note(self, identity: str, asked: float, mode: str) -> None:
        disk, mind, process = self.disks[identity], self.minds[identity], self.processes[identity]
        role = "primary" if mind.primary else "syncing" if disk.syncing else "replica"
        position = len(disk.entries)
        if mode == "lie":
            role, position = "primary", 10**9
        process.seen = replace(
            process.seen,
            role=role,  # type: ignore[arg-type]
            position=position,
            asked_at=asked,
            unsure_since=None,
        )

    # --- hooks ---

    def command(self, instance: str, key: str, command: SideCommand) -> None:
        process = self.processes.get(instance)
        if process is None or instance not in self.minds or key in process.seen.commands:
            return
        promotes, demotes = key.startswith("promote"), key.startswith("demote")
        since = self.disks[instance].bad_since
        if promotes and since is not None and self.line.time - since > BAD_SECONDS:
            raise Violation(f"{instance} is promoted, and has had a bad volume since {since}")
        self._answer(instance, key, Answer("waiting"))
        mode = self.hooks
        if mode == "mixed":
            mode = self.line.random.choice(["well", "fail", "hang", "half", "half hang"])
        took = self.line.random.uniform(0.05, 0.4)
        unfit = self._bad(instance) or self.disks[instance].syncing
        if (promotes and unfit) or (demotes and mode == "half"):
            mode = "fail"  # a demote that says that it failed has left all as it was
        if mode in ("well", "half", "half hang"):
            term = int(command.environment["VOLERY_TERM"])
            self.line.after(took, lambda: self._effect(instance, process, term, promotes))
        if demotes and mode in ("well", "half hang"):
            self.line.after(took, lambda: self._demote(instance, process))
        late = min(20.0, command.seconds) if mode in ("hang", "half hang") else took + 0.01
        state = {"well": "yes", "fail": "no", "half": "no"}.get(mode, "broken")
        answer = Answer(state, mode, at=self.line.time + late)  # type: ignore[arg-type]
        self.line.after(late, lambda: self._end_command(instance, process, key, answer))

    def _effect(self, instance: str, process: Process, term: int, promotes: bool) -> None:
        mind = self.minds.get(instance)
        if not promotes or mind is None or mind.process is not process or mind.frozen:
            return
        if self._bad(instance) or self.disks[instance].syncing:
            return
        if self.processes.get(instance) is not process or process.stopping:
            return
        self.promotions.append((self.line.time, instance, term))
        self.disks[instance].term = term
        mind.term = max(mind.term, term)
        self._become_primary(instance)

    def _demote(self, instance: str, process: Process) -> None:
        mind = self.minds.get(instance)
        if mind is not None and mind.process is process and not mind.frozen:
            mind.demoted = True

    def _end_command(self, instance: str, process: Process, key: str, answer: Answer) -> None:
        if self.processes.get(instance) is process and key in process.seen.commands:
            self._answer(instance, key, answer)
            self.wake()

    def _answer(self, instance: str, key: str, answer: Answer) -> None:
        process = self.processes[instance]
        commands = {**process.seen.commands, key: answer}
        process.seen = replace(process.seen, commands=commands)

    def forget_commands(self) -> None:
        """The control plane died: what ran beside instances ended with it."""
        for process in self.processes.values():
            process.seen = replace(process.seen, commands={})

    # --- data ---

    def _routed(self, service: str) -> str | None:
        """Whom the data plane leads to."""
        assert self.traffic is not None
        routed = self.traffic.proxies[0].config.services.get(service)
        for group in routed.slots.values() if routed else ():
            for endpoint in group.endpoints:
                if not endpoint.draining and group.weight > 0:
                    return endpoint.instance
        return None

    def routed_to_emptied(self, service: str) -> str:
        """The primary that clients are led to, if its volume was emptied and others have data."""
        target = self._routed(service) or ""
        mind = self._working(target)
        others = any(disk.entries for key, disk in self.disks.items() if key != target)
        lost = mind is not None and mind.primary and self.disks[target].emptied and others
        return target if lost else ""

    def _working(self, identity: str | None) -> Mind | None:
        mind = self.minds.get(identity or "")
        return mind if mind and not mind.frozen and self._living(identity or "") else None

    def write(self, service: str) -> None:
        """One client's write, to whoever the data plane leads to."""
        target = self._routed(service)
        mind = self._working(target)
        if self._bad(target or ""):
            return
        if mind is None or mind.demoted:
            return
        if mind.primary and target and not mind.process.stopping:
            self.written += 1
            self.disks[target].entries.append((mind.term, self.written))

    def stream(self, service: str) -> None:
        """Replicas take in what the primary they reach has; what two have is acknowledged."""
        source = self._routed(service)
        leader = self._working(source)
        for identity in sorted(self.minds):
            mind = self._working(identity)
            if mind is None or mind.primary or source is None or identity == source:
                continue
            if self._bad(identity):
                continue
            behind = mind.lag and self.line.random.random() < 0.9
            if leader is not None and leader.primary and leader.term >= mind.term and not behind:
                self._take_in(identity, mind, source, leader)

    def _take_in(self, identity: str, mind: Mind, source: str, leader: Mind) -> None:
        mine, theirs = self.disks[identity], self.disks[source].entries
        if mine.entries and mine.system != self.disks[source].system:
            return
        mine.system = self.disks[source].system
        mind.term = leader.term
        length = len(mine.entries)
        if length > len(theirs) or (length and mine.entries[-1] != theirs[length - 1]):
            mine.entries, mine.syncing = [], True
            return
        mine.entries += theirs[length : length + 200]
        mine.syncing = mine.syncing and len(mine.entries) < len(theirs)
        # On two disks now. What is not a continuation of what was acknowledged is a loss, found at
        # the end.
        known = len(self.acknowledged)
        if mine.entries[:known] == self.acknowledged:
            self.acknowledged += mine.entries[known:]
        else:
            fresh = set(self.acknowledged)
            self.acknowledged += [entry for entry in mine.entries if entry not in fresh]

    def whole_copies(self, without: str) -> list[str]:
        """Living members besides this one that have all that was acknowledged."""
        return [
            key
            for key in self.minds
            if key != without and not self.disks[key].syncing and not self.lost(key)
        ]

    def lost(self, identity: str) -> list[Entry]:
        """Acknowledged entries that this disk lacks."""
        there = set(self.disks.get(identity, Disk()).entries)
        return [entry for entry in self.acknowledged if entry not in there]
