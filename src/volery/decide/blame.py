"""Whose fault a crash is: a release's that was just deployed, the machine's, or just an incident.

Three crashes of a release within a minute are a loop. Right after its deploy, while the release
before it is kept, they are the deploy's fault and it is taken back; later they are an incident: the
shims keep trying. The same crash at the same time in services that have nothing to do with each
other is the machine's fault: nothing is rolled back and nothing replaced, that would only add load.
What somebody else ended (SIGKILL, and not for want of memory) is held against no release; nor is
what a service did while it had an excuse.
"""

from __future__ import annotations

from collections.abc import Iterator

from volery.decide.order import waits_for
from volery.decide.submit import earlier
from volery.decide.world import World, number_of
from volery.model.errors import VoleryError
from volery.model.ports import Exit
from volery.model.state import Phase, Rollout, ServiceState

CRASHES, LOOP_SECONDS = 3, 60.0
DEPLOY_SECONDS = 600.0
"""For so long after a deploy ended, crashes are held against it."""
AT_ONCE_SECONDS = 10.0
UNRELATED = 3
CALM_SECONDS = 60.0
"""The machine is trusted again after so long without such a crash."""


def was_killed(ended: Exit) -> bool:
    """Whether somebody else ended it."""
    return ended.signal == "SIGKILL" and not ended.out_of_memory


def recent_exits(world: World, service: str, now: float, seconds: float) -> Iterator[Exit]:
    """How processes of a service's running instances ended by themselves lately."""
    for item in world.instances_of(service):
        seen = world.observed.get(item.id)
        if seen is None or item.intent != "run" or not item.proven or seen.state == "stopping":
            continue
        yield from (ended for ended in seen.exits if 0 <= now - ended.at <= seconds)


def crash_loop(
    world: World, service: ServiceState, now: float, within: float = LOOP_SECONDS
) -> str:
    """In one line how the live release crashes again and again; "" if it does not, or did not do it
    within so many seconds."""
    live = service.live
    if live is None:
        return ""
    crashes = [
        ended
        for item in world.instances_of(service.name, service.active)
        if item.release == live.release and item.intent == "run" and item.proven
        for ended in (world.observed[item.id].exits if item.id in world.observed else ())
        if 0 <= now - ended.at <= min(within, LOOP_SECONDS) and not was_killed(ended)
    ]
    if len(crashes) < CRASHES:
        return ""
    return f"{live.release} crashed {len(crashes)} times in {LOOP_SECONDS:g}s, last: {crashes[-1]}"


def deploy_at_fault(world: World, service: ServiceState, now: float) -> Rollout | None:
    """The deploy that brought the live release, if that was just now and it can be taken back."""
    live = service.live
    done = [
        rollout
        for rollout in world.rollouts.values()
        if rollout.service == service.name and rollout.phase is Phase.DONE
    ]
    newest = max(done, key=lambda rollout: number_of(rollout.id), default=None)
    if newest is None or live is None or newest.to_release != live.release:
        return None
    since = now - (newest.finished_at or 0.0)
    if newest.cause not in ("up", "deploy") or not 0 <= since <= DEPLOY_SECONDS:
        return None
    try:
        earlier(world, service, None)
    except VoleryError:
        return None
    return newest if newest.from_release not in (None, newest.to_release) else None


def machine_at_fault(world: World, now: float) -> str:
    """In one line what happens to unrelated services at the same time; "" if nothing does."""
    crashed: dict[str, set[str]] = {}
    for name in world.services:
        for ended in recent_exits(world, name, now, AT_ONCE_SECONDS):
            crashed.setdefault(str(ended), set()).add(name)
    if not crashed:
        return ""
    configs = {name: state.config for name, state in world.services.items()}
    for how, names in sorted(crashed.items()):
        unrelated = [name for name in sorted(names) if not waits_for(name, configs, names)]
        if len(unrelated) >= UNRELATED:
            return f"{', '.join(unrelated)} ended at the same time: {how}"
    return ""
