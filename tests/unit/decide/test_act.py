"""What a person may do with a rollout, by the phase it is in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.decide.worlds import canary_world, only

from volery.decide.act import act, chosen
from volery.decide.world import World
from volery.model.errors import Code, VoleryError
from volery.model.state import ENDED, Phase, Rollout, ServiceState

UNDER_WAY = [phase for phase in Phase if phase not in ENDED]
GOING = {Phase.STARTING, Phase.SHIFTING, Phase.ANALYSING}
MAY = {
    "abort": set(UNDER_WAY) - {Phase.ROLLING_BACK},
    "pause": GOING,
    "resume": {Phase.PAUSED},
    "promote": GOING | {Phase.PAUSED},
}


def at(phase: Phase) -> tuple[Rollout, ServiceState]:
    found = canary_world(phase)
    rollout = only(found)
    if phase is Phase.PAUSED:
        rollout = replace(rollout, resume_to=Phase.ANALYSING, reason="waits for approval")
    return rollout, found.services["catalog"]


def told(phase: Phase, verb: str, *, full: bool = False) -> tuple[Rollout, ServiceState]:
    return act(*at(phase), verb, f"{verb} asked for by kim", 9.0, full=full)


@pytest.mark.parametrize("phase", UNDER_WAY)
@pytest.mark.parametrize("verb", MAY)
def test_what_may_be_done_when(phase: Phase, verb: str) -> None:
    if phase in MAY[verb]:
        told(phase, verb)
        return
    with pytest.raises(VoleryError) as refused:
        told(phase, verb)
    assert refused.value.code is Code.CONFLICT
    words = f"cannot {verb} catalog-r2 while it is {phase.replace('_', ' ')}"
    assert refused.value.message == words
    assert refused.value.hint.endswith("volery rollout catalog --watch")


@pytest.mark.parametrize("phase", sorted(MAY["abort"]))
def test_an_abort_gives_everything_back_and_blames_nobody(phase: Phase) -> None:
    rollout, service = told(phase, "abort")
    begun = phase not in (Phase.BUILDING, Phase.TESTING)
    assert rollout.phase is (Phase.ROLLING_BACK if begun else Phase.ROLLED_BACK)
    assert (rollout.verdict, rollout.reason) == (None, "abort asked for by kim")
    if begun:
        old, new = service.slots["a"], service.slots["b"]
        assert old is not None and new is not None
        assert (old.weight, new.weight) == (100, 0)


def test_a_pause_keeps_what_it_has_and_resuming_goes_on_there() -> None:
    held, service = told(Phase.SHIFTING, "pause")
    assert (held.phase, held.resume_to, held.weight) == (Phase.PAUSED, Phase.SHIFTING, 10)
    assert (held.reason, held.paused_for) == ("pause asked for by kim", "person")
    assert service == at(Phase.SHIFTING)[1]
    going, _ = act(held, service, "resume", "", 10.0, full=False)
    assert (going.phase, going.resume_to, going.reason) == (Phase.SHIFTING, None, "")
    assert going.attempt == held.attempt + 1 and going.passed == held.passed


def test_resuming_lets_nothing_pass_and_promoting_lets_this_step_pass() -> None:
    assert told(Phase.PAUSED, "resume")[0].passed == 0
    one, _ = told(Phase.PAUSED, "promote")
    assert (one.phase, one.passed, one.approved) == (Phase.ANALYSING, 1, False)
    assert one.waived == ("before_step:2",)


def test_promoting_in_full_lets_everything_pass() -> None:
    rollout, _ = told(Phase.ANALYSING, "promote", full=True)
    assert (rollout.passed, rollout.approved) == (3, True)
    assert rollout.waived == ("before_step:1", "before_step:2", "before_step:3", "after")


def test_promoting_the_step_before_the_last_is_the_approval() -> None:
    rollout, service = at(Phase.PAUSED)
    after, _ = act(replace(rollout, step=2), service, "promote", "", 9.0, full=False)
    assert after.approved


@pytest.mark.parametrize("strategy", ["canary", "blue-green", "rolling"])
def test_promoting_past_the_gate_before_the_start_is_no_approval(strategy: str) -> None:
    rollout, service = at(Phase.PAUSED)
    held = replace(
        rollout,
        strategy=strategy,  # type: ignore[arg-type]
        step=0,
        steps=1,
        resume_to=Phase.BUILDING,
    )
    after, _ = act(held, service, "promote", "", 9.0, full=False)
    assert (after.phase, after.waived) == (Phase.BUILDING, ("before_start",))
    assert (after.approved, after.passed) == (False, 0)
    assert act(held, service, "promote", "", 9.0, full=True)[0].approved


def test_resuming_is_refused_where_it_would_only_wait_for_approval_again() -> None:
    rollout, service = at(Phase.PAUSED)
    asks = replace(rollout, paused_for="approval")
    with pytest.raises(VoleryError, match="catalog-r2 waits for approval") as refused:
        act(asks, service, "resume", "", 9.0, full=False)
    assert refused.value.hint == "volery promote catalog"
    assert act(asks, service, "promote", "", 9.0, full=False)[0].paused_for == ""


def queued() -> World:
    """One rollout moves; a newer one waits behind it."""
    found = canary_world(Phase.ANALYSING)
    newer = replace(only(found), id="catalog-r3", created_at=5.0, phase=Phase.BUILDING)
    return replace(found, rollouts={**found.rollouts, newer.id: newer})


@pytest.mark.parametrize(
    ("verb", "identity"),
    [
        ("abort", "catalog-r3"),
        ("pause", "catalog-r2"),
        ("resume", "catalog-r2"),
        ("promote", "catalog-r2"),
    ],
)
def test_which_one_is_meant(verb: str, identity: str) -> None:
    assert chosen(queued(), "catalog", verb).id == identity


@pytest.mark.parametrize("verb", MAY)
def test_without_one_there_is_nothing_to_act_on(verb: str) -> None:
    found = replace(canary_world(), rollouts={})
    with pytest.raises(VoleryError, match="catalog has no rollout under way") as refused:
        chosen(found, "catalog", verb)
    assert refused.value.code is Code.CONFLICT
