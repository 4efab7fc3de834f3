"""What every `Store` promises, asked of the one in memory and the one on disk alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from volery.model.application import Application, Environment, Probe, Service, ServiceOverride
from volery.model.deploy import Deploy
from volery.model.needs import Need, Retry
from volery.model.ports import Change
from volery.model.state import (
    EnvironmentState,
    Event,
    Instance,
    Phase,
    Release,
    Rollout,
    ServiceState,
    Slot,
    Track,
)
from volery.store.memory import MemoryStore
from volery.store.sqlite import SqliteStore

Store = MemoryStore | SqliteStore

RICH = Service.model_validate(
    {
        "team": "web",
        "build": ["python -m compileall -q ."],
        "test": "python -m pytest -q",
        "run": "python app.py",
        "env": {"LOG_LEVEL": "info", "ON": True},
        "secrets": ["PAYMENT_KEY"],
        "needs": {
            "catalog": {},
            "payments": {
                "timeout": "800ms",
                "retry": {"attempts": 2, "backoff": "25ms..250ms", "budget": "20%"},
            },
        },
        "health": {"ready": "/healthz", "live": {"tcp": True}, "startup": "30s"},
        "scale": {"min": 2, "max": 10, "target": {"concurrency": 8}},
        "resources": {"cpu": 0.5, "memory": "256Mi"},
        "steady_state": {"errors": "< 1%", "latency": {"p99": "< 300ms"}},
        "deploy": {"strategy": "canary", "steps": ["1%", "50%"], "at_most": "10m"},
        "state": {"volume": "data", "role": "./role.sh"},
    }
)
PLAIN = Service(run=("python", "app.py"))
DOCUMENTS: dict[str, object] = {
    "environment": EnvironmentState(
        application=Application(
            app="birdhouse",
            services={"catalog": RICH, "web": PLAIN},
            environments={
                "dev": Environment(),
                "big": Environment(overrides={"catalog": ServiceOverride(deploy=Deploy(surge=2))}),
            },
        ),
        name="dev",
        root="/srv/birdhouse",
        base_env={"PATH": "/usr/bin"},
    ),
    "service": ServiceState(
        name="catalog",
        config=RICH,
        scale=2,
        slots={"a": Slot("catalog@3f2a91c0", Track.STABLE, 2, 100), "b": None},
        warm_until=12.5,
    ),
    "instance": Instance(
        id="catalog-3f2a91c0-1",
        service="catalog",
        slot="a",
        release="catalog@3f2a91c0",
        intent="run",
        since=1.0,
        created_at=0.5,
    ),
    "release": Release(
        id="catalog@3f2a91c0",
        service="catalog",
        artifact="ab" * 16,
        spec=RICH,
        created_at=0.1,
        secret_versions={"PAYMENT_KEY": 3},
    ),
    "rollout": Rollout(
        id="catalog-r1",
        service="catalog",
        to_release="catalog@3f2a91c0",
        strategy="canary",
        slot="b",
        group="g",
        created_at=0.1,
        since=0.2,
        phase=Phase.PAUSED,
        resume_to=Phase.SHIFTING,
        tail=("a", "é"),
        seconds={"build": 1.5},
    ),
}


def put(kind: str, key: str, document: object | None) -> Change:
    return Change(kind, key, document)  # type: ignore[arg-type]


def happened(text: str, service: str | None = None) -> Event:
    return Event(at=1.0, kind="test.happened", text=text, service=service, data={"n": [1, 2.5]})


def instance(number: int) -> Instance:
    base = DOCUMENTS["instance"]
    assert isinstance(base, Instance)
    return replace(base, id=f"catalog-{number}", since=float(number))


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    made: list[SqliteStore] = []

    def new(keep: int = 1000) -> Store:
        if request.param == "memory":
            return MemoryStore(keep=keep)
        made.append(SqliteStore(tmp_path / "state.db", keep=keep))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(make: Callable[..., Store]) -> Store:
    return make()


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_gives_back_what_was_put(store: Store, kind: str) -> None:
    store.commit([put(kind, "k", DOCUMENTS[kind])], [])
    assert store.documents(kind) == {"k": DOCUMENTS[kind]}


def test_starts_empty(store: Store) -> None:
    assert all(store.documents(kind) == {} for kind in DOCUMENTS)
    assert store.events() == ()
    assert store.last_seq() == 0


def test_numbers_events_from_one_without_gaps(store: Store) -> None:
    first = store.commit([], [happened("a"), replace(happened("b"), seq=77)])
    second = store.commit([], [happened("c")])
    assert [event.seq for event in (*first, *second)] == [1, 2, 3]
    assert store.events() == (*first, *second)
    assert store.last_seq() == 3


def test_events_are_filtered_and_limited_oldest_first(store: Store) -> None:
    services = ["web", "db", None, "web", "web"]
    store.commit([], [happened(str(n), service) for n, service in enumerate(services)])
    assert [event.text for event in store.events(after=1, limit=2)] == ["1", "2"]
    assert [event.text for event in store.events(service="web", limit=2)] == ["0", "3"]
    assert [event.text for event in store.events(after=4, service="web")] == ["4"]
    assert store.events(after=5) == store.events(limit=0) == store.events(limit=-1) == ()


def test_the_newest_events_are_found_without_the_others(store: Store) -> None:
    services = ["web", "db", None, "web", "web"]
    store.commit([], [happened(str(n), service) for n, service in enumerate(services)])
    assert [event.text for event in store.latest(2)] == ["3", "4"]
    assert [event.text for event in store.latest(2, service="web")] == ["3", "4"]
    assert [event.text for event in store.latest(9, before=4, service="web")] == ["0"]
    assert [event.text for event in store.latest(1, before=4)] == ["2"]
    assert store.latest(0) == store.latest(-1) == store.latest(5, before=1) == ()


def test_the_newest_events_of_a_ledger_that_has_forgotten_some(
    make: Callable[..., Store],
) -> None:
    store = make(keep=10)
    for number in range(40):
        store.commit([], [happened(str(number))])
    first = store.events()[0].seq
    assert [event.seq for event in store.latest(100)] == list(range(first, 41))
    assert [event.seq for event in store.latest(2, before=first + 3)] == [first + 1, first + 2]


def test_last_change_of_a_key_wins_and_none_deletes(store: Store) -> None:
    store.commit([put("instance", "x", instance(1)), put("instance", "x", instance(2))], [])
    assert store.documents("instance") == {"x": instance(2)}
    store.commit([put("instance", "x", None), put("instance", "never", None)], [])
    assert store.documents("instance") == {}


def test_what_was_read_does_not_change_afterwards(store: Store) -> None:
    store.commit([put("instance", "x", instance(1))], [])
    before = store.documents("instance")
    store.commit([put("instance", "y", instance(2)), put("instance", "x", None)], [])
    assert before == {"x": instance(1)}
    with pytest.raises(TypeError):
        before["z"] = instance(3)  # type: ignore[index]


def test_what_did_not_change_is_read_as_the_same_object(store: Store) -> None:
    """So that nobody looks through it again."""
    store.commit([put("instance", "x", instance(1))], [])
    before = store.documents("instance")
    store.commit([put("release", "x", DOCUMENTS["release"])], [])
    assert store.documents("instance") is before


@pytest.mark.parametrize(
    "wrong",
    [put("instances", "x", None), put("instance", "x", DOCUMENTS["release"])],
    ids=["kind", "type"],
)
def test_refuses_what_is_no_document_of_its_kind_and_changes_nothing(
    store: Store, wrong: Change
) -> None:
    with pytest.raises(TypeError):
        store.commit([put("instance", "y", instance(1)), wrong], [happened("never")])
    assert store.documents("instance") == {}
    assert store.events() == ()


def test_keeps_the_newest_events_and_counts_on(make: Callable[..., Store]) -> None:
    store = make(keep=10)
    for number in range(1, 26):
        store.commit([], [happened(str(number))])
        kept = [event.seq for event in store.events()]
        assert kept == list(range(max(1, number - 9), number + 1))
    assert store.last_seq() == 25


class Machine(RuleBasedStateMachine):
    """Any history of commits: both stores and a plain dictionary agree, also after reopening."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.db"
        self.disk = SqliteStore(self.path, keep=5)
        self.memory = MemoryStore(keep=5)
        self.expected: dict[str, object] = {}

    @initialize()
    def begin(self) -> None:
        assert self.disk.last_seq() == 0

    @rule(
        edits=st.lists(
            st.tuples(st.sampled_from("xyz"), st.none() | st.integers(0, 9)), max_size=4
        ),
        texts=st.lists(st.sampled_from(["web", "db"]), max_size=4),
    )
    def commit(self, edits: list[tuple[str, int | None]], texts: list[str]) -> None:
        changes = [put("instance", k, None if n is None else instance(n)) for k, n in edits]
        events = [happened(text, service=text) for text in texts]
        assert self.disk.commit(changes, events) == self.memory.commit(changes, events)
        for key, number in edits:
            self.expected.pop(key, None)
            if number is not None:
                self.expected[key] = instance(number)

    @rule()
    def reopen(self) -> None:
        self.disk.close()
        self.disk = SqliteStore(self.path, keep=5)

    @invariant()
    def agree(self) -> None:
        assert self.disk.documents("instance") == self.expected
        assert self.memory.documents("instance") == self.expected
        for service in (None, "web"):
            assert self.disk.events(service=service) == self.memory.events(service=service)
        assert self.disk.last_seq() == self.memory.last_seq()

    def teardown(self) -> None:
        self.disk.close()
        self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=25,
    stateful_step_count=15,
    suppress_health_check=[HealthCheck.too_slow],
)


# --- only on disk ---------------------------------------------------------------------------------

COMMITS_FOR_EVER = """
import sys
from dataclasses import replace
from pathlib import Path
from volery.model.ports import Change
from volery.model.state import Event, Instance
from volery.store.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]), keep=50)
n = store.last_seq()
item = Instance("i", "web", "a", "web@1", "run", 0.0, 0.0)
while True:
    n += 1
    big = replace(item, since=float(n), because="z" * 9000)  # a commit of several pages
    changes = [Change("instance", key, big) for key in "xy"]
    store.commit(changes, [Event(at=float(n), kind="k", text=str(n))])
    print(n, flush=True)
"""


@pytest.mark.parametrize("attempt", range(4))
def test_kill_9_at_any_moment_loses_nothing_that_was_told(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "state.db"
    for told_before_kill in (3, 1 + 17 * attempt, 60):
        child = subprocess.Popen(
            [sys.executable, "-c", COMMITS_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            for _ in range(told_before_kill):
                assert child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
            told = [int(line) for line in child.stdout.read().splitlines() if line]
        with SqliteStore(path, keep=50) as store:
            last = store.last_seq()
            assert last >= max(told, default=0)
            seen = {key: item.since for key, item in store.documents("instance").items()}  # type: ignore[attr-defined]
            assert seen == {"x": float(last), "y": float(last)}
            events = store.events()
            assert [event.seq for event in events] == list(range(events[0].seq, last + 1))
            assert len(events) >= min(50, last)
            assert events[-1].text == str(last)


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    changes = [put(kind, "k", document) for kind, document in DOCUMENTS.items()]
    with SqliteStore(tmp_path / "state.db") as store:
        told = store.commit(changes, [happened("é\n\u2028", "web"), happened("b")])
    with SqliteStore(tmp_path / "state.db") as store:
        for kind, document in DOCUMENTS.items():
            assert store.documents(kind) == {"k": document}
        assert store.events() == told


def test_overrides_still_override_only_what_was_written(tmp_path: Path) -> None:
    """`in_environment` asks which values a person wrote; the store must not invent some."""
    environment = DOCUMENTS["environment"]
    assert isinstance(environment, EnvironmentState)
    with SqliteStore(tmp_path / "state.db") as store:
        store.commit([put("environment", "e", environment)], [])
    with SqliteStore(tmp_path / "state.db") as store:
        read = store.documents("environment")["e"]
    assert isinstance(read, EnvironmentState)
    for name in ("dev", "big"):
        assert read.application.in_environment(name) == environment.application.in_environment(name)


def test_needs_and_policies_survive(tmp_path: Path) -> None:
    service = Service(run=("x",), needs={"n": Need(retry=Retry(on=("5xx",)))}, test=(("t",),))
    service = service.model_copy(
        update={"health": service.health.model_copy(update={"ready": Probe(command=("a", "b"))})}
    )
    state = ServiceState(name="s", config=service, scale=1)
    with SqliteStore(tmp_path / "state.db") as store:
        store.commit([put("service", "s", state)], [])
    with SqliteStore(tmp_path / "state.db") as store:
        assert store.documents("service") == {"s": state}
