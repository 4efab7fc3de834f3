"""What is done with whole volumes, and what that means to whoever is started next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from unit.decide.test_stateful import WELL, database

from volery.control.draft import Draft
from volery.control.specs import instance_spec
from volery.control.volumes import Deed, note_deeds
from volery.decide.stateful.steward import begin
from volery.model.ports import Change
from volery.model.tenure import Tenure
from volery.store.memory import MemoryStore

BEFORE = Tenure("db", "db-1", 4, 0.0, furthest=9)


def after(tenure: Tenure, *deeds: tuple[Deed, str]) -> Tenure:
    store = MemoryStore()
    store.commit([Change("tenure", "db", tenure)], ())
    for deed, name in deeds:
        draft = Draft(store, 100.0)
        note_deeds(draft, deed, {name: None} if name else {}, "sam")
        draft.commit()
    found = store.documents("tenure")["db"]
    assert isinstance(found, Tenure)
    return found


@pytest.mark.parametrize(
    ("deeds", "emptied"),
    [
        ([("deleted", "db/data-1@1")], True),
        ([("deleted", "")], True),
        ([("deleted", "db/data-1@1"), ("expired", "db/data-1@1")], True),
        ([("deleted", "db/data-1@1"), ("restored", "db/data-0")], False),
        ([("deleted", "db/data-1@1"), ("restored", "other/data-0")], True),
        ([("purged", "db/data-1@1")], False),
    ],
)
def test_whose_volumes_were_all_deleted_may_begin_without_data(
    deeds: list[tuple[Deed, str]], emptied: bool
) -> None:
    found = after(BEFORE, *deeds)
    assert (found.emptied, found.primary, found.term) == (emptied, "db-1", 4)


def test_a_change_of_primary_under_way_is_over_when_there_is_no_data() -> None:
    found = after(begin(BEFORE, "failover", "it ended", 0.0), ("deleted", "db/data-1@1"))
    assert found.changing is None and found.term == 5 and found.furthest == 0


@pytest.mark.parametrize("emptied", [True, False])
def test_only_the_primary_is_told_that_it_may_begin_without_data(emptied: bool) -> None:
    tenures = {"db": Tenure("db", "db-1", 4, 0.0, emptied=emptied)}
    world = replace(database(WELL), tenures=tenures)
    specs = [
        instance_spec(world, item, Path("/home"), lambda *_: 1, lambda _: {})
        for item in world.instances.values()
    ]
    told = {spec.id: spec.environment.get("VOLERY_EMPTY") for spec in specs}
    assert told == {"db-0": None, "db-1": "1" if emptied else None, "db-2": None}
