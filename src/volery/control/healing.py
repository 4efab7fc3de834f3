"""Healing: gathers what `decide.healing` may know, records what it decided, and tells the guard.

What it remembers between two looks (evidence against instances, measurements of memory, since when
a need is back) is lost with the process and gathered anew; heals are documents and go on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from volery.control.begin import begin as begin_rollout
from volery.control.draft import Draft
from volery.control.guarding import machine_recovered
from volery.control.sick import Evidence
from volery.control.watch import Ages
from volery.decide import blame, healing
from volery.decide.ailments import Signs, ailments
from volery.decide.dependence import RECOVERY_SECONDS, down, lacks
from volery.decide.guard import braked, noted
from volery.decide.phases import has_begun, is_return
from volery.decide.submit import Order, rollback
from volery.decide.upkeep import is_leaving
from volery.decide.world import World
from volery.model.errors import VoleryError
from volery.model.guard import Action
from volery.model.healing import IN_WORDS, Ailment, Heal
from volery.model.state import ServiceState

Ended = Mapping[str, Sequence[Ailment]]


class Healer:
    """Finds ailments, begins heals and sees them to their verdicts."""

    def __init__(self, ages: Ages, evidence: Evidence) -> None:
        self._ages = ages
        self._evidence = evidence
        self._excused_until: dict[str, float] = {}
        self._lacking: dict[str, frozenset[str]] = {}
        self._said: dict[str, str] = {}

    def drive(self, draft: Draft, ended: Ended, monotonic: float) -> None:
        """One look at every service; `ended` are the exits that were seen just now."""
        unavailable = down(draft.world)
        self._evidence.measure(draft.world)
        trouble = self._machine(draft, monotonic)
        for name in sorted(draft.world.services):
            service = draft.world.services[name]
            excuse = self._excuse(draft, service, unavailable, monotonic)
            found = [*ended.get(name, ())]
            found += ailments(draft.world, service, self._signs(draft, service, excuse, monotonic))
            self._go_on(draft, name, found, monotonic)
            if is_leaving(draft.world, service):
                continue
            calm = monotonic - self._excused_until.get(name, -math.inf)
            if not trouble and not self._take_back(draft, service, calm, excuse):
                self._begin(draft, service, found)
        self._forget(draft)

    # --- what is known ----------------------------------------------------------------------------

    def _signs(self, draft: Draft, service: ServiceState, excuse: str, monotonic: float) -> Signs:
        rollout = draft.world.rollout_of(service.name)
        judged = rollout is not None and has_begun(rollout) and not is_return(rollout)
        return Signs(
            now=draft.now,
            unready_for=lambda key: self._ages.of((key, "not ready"), monotonic),
            comparisons=self._evidence.outliers(service.name),
            leaks=self._evidence.leaks(draft.world, service),
            excuse=excuse,
            passed_over=rollout.slot if rollout and judged else None,
        )

    def _excuse(
        self, draft: Draft, service: ServiceState, unavailable: frozenset[str], monotonic: float
    ) -> str:
        """Why failures are not held against a service's instances: a need is down, or just was."""
        missing = lacks(service, unavailable)
        self._tell_of_needs(draft, service, frozenset(lack.need for lack in missing))
        if missing:
            self._excused_until[service.name] = monotonic + RECOVERY_SECONDS
            return missing[0].text
        if service.config.needs:
            # Of what was before this control plane nothing is known.
            until = self._excused_until.setdefault(service.name, monotonic + RECOVERY_SECONDS)
            return "its needs are back" if monotonic < until else ""
        return ""

    def _tell_of_needs(self, draft: Draft, service: ServiceState, missing: frozenset[str]) -> None:
        before = self._lacking.get(service.name, frozenset())
        if missing == before:
            return
        self._lacking[service.name] = missing
        for need in sorted(missing - before):
            policy = service.config.needs[need]
            draft.event(
                "service.need_down",
                f"{service.name}: its need {need} is down ({policy.importance});"
                " its instances are not replaced for that",
                service=service.name,
                cause=f"no instance of {need} serves",
                data={"need": need, "importance": policy.importance},
            )
        for need in sorted(before - missing):
            text = f"{service.name}: its need {need} is back"
            draft.event("service.need_back", text, service=service.name, data={"need": need})

    # --- the machine ------------------------------------------------------------------------------

    def _machine(self, draft: Draft, monotonic: float) -> str:
        """Why nothing is begun in the whole environment, if the machine is at fault."""
        what = blame.machine_at_fault(draft.world, draft.now)
        opened = next(
            (h for h in draft.world.heals.values() if not h.ended and not h.service), None
        )
        if what and opened is None:
            self._open_machine(draft, what)
        if opened is None:
            return what
        calm = self._ages.of((opened.id, what == ""), monotonic)
        if not what and calm >= blame.CALM_SECONDS:
            calmed = healing.end(opened, "helped", "no such crash since", draft.now)
            self._record(draft, opened, calmed)
            machine_recovered(draft, opened.text)
            return ""
        return opened.text

    def _open_machine(self, draft: Draft, what: str) -> None:
        heal = Heal(
            id=healing.next_id(draft.world, ""),
            service="",
            kind="machine",
            instance="",
            slot="a",
            release="",
            text=what,
            created_at=draft.now,
            since=draft.now,
            done="nothing is replaced or rolled back; the shims go on restarting",
        )
        draft.put("heal", heal.id, heal)
        text = f"the machine is at fault, automation stands still: {what}"
        draft.event("machine.trouble", text, cause=what, data=_about(heal))
        action = Action("heal", "", draft.now, helped=False, text=what, machine=True)
        draft.put("guard", "guard", noted(draft.world.guard, action))

    # --- heals ------------------------------------------------------------------------------------

    def _go_on(self, draft: Draft, name: str, found: Sequence[Ailment], monotonic: float) -> None:
        for heal in draft.world.heals_of(name):
            if heal.ended:
                continue
            in_phase = self._ages.of((heal.id, heal.phase), monotonic)
            service = draft.world.services.get(name)
            after = healing.step(heal, draft.world, service, found, draft.now, in_phase)
            self._record(draft, heal, after)

    def _begin(self, draft: Draft, service: ServiceState, found: Sequence[Ailment]) -> None:
        self._note_exit(draft, service, [item for item in found if item.kind == "exited"])
        found = [item for item in found if item.kind != "exited"]
        stands = braked(draft.world.guard, service.name)
        self._withhold(draft, service, found, stands)
        choice = healing.choose(draft.world, service, found, draft.now)
        held = stands if choice.ailment else choice.waits
        if held != self._said.get(service.name, ""):
            self._said[service.name] = held
            if held:
                text = f"{service.name} is not healed now: {held}"
                draft.event("heal.waits", text, service=service.name, cause=held)
        if choice.ailment is not None and not held:
            self._open(draft, service, choice.ailment, found)

    def _withhold(
        self, draft: Draft, service: ServiceState, found: Sequence[Ailment], stands: str
    ) -> None:
        """What users feel leaves the rotation also while a brake is on; without one it serves
        again, and is healed if it is found again."""
        if not stands:
            for item in healing.kept_out(draft.world, service):
                draft.put("instance", item.id, replace(item, withheld=False))
            return
        for ailment in healing.to_keep_out(draft.world, service, found):
            item = draft.world.instances[ailment.instance]
            draft.put("instance", item.id, replace(item, withheld=True))
            self._evidence.forget(service.name)
            words = f"{IN_WORDS[ailment.kind]}: {ailment.text}"
            draft.event(
                "heal.withheld",
                f"{item.id}: {words}; taken out of rotation, not replaced: {stands}",
                service=service.name,
                release=item.release,
                instance=item.id,
                cause=words,
                data={"ailment": ailment.kind, "evidence": dict(ailment.evidence)},
            )

    def _note_exit(self, draft: Draft, service: ServiceState, ended: Sequence[Ailment]) -> None:
        """One record for those that ended at the same time, unless one is open or just failed."""
        if not ended:
            return
        opened = [
            heal
            for heal in draft.world.heals_of(service.name)
            if heal.kind == "exited" and not heal.ended
        ]
        if opened:
            return
        if not healing.choose(draft.world, service, ended, draft.now).waits:
            self._open(draft, service, ended[0], ended)

    def _open(
        self, draft: Draft, service: ServiceState, ailment: Ailment, found: Sequence[Ailment]
    ) -> None:
        heal, item = healing.begin(draft.world, service, ailment, found, draft.now)
        draft.put("heal", heal.id, heal)
        draft.put("instance", item.id, item)
        self._evidence.forget(service.name)
        words = IN_WORDS[heal.kind]
        draft.event(
            "heal.started",
            f"{item.id}: {words}: {heal.text}; {heal.done}",
            service=heal.service,
            release=heal.release,
            instance=heal.instance,
            cause=f"{words}: {heal.text}",
            data=_about(heal),
        )

    def _record(self, draft: Draft, before: Heal, after: Heal) -> None:
        if before == after:
            return
        draft.put("heal", after.id, after)
        if before.phase == after.phase:
            return
        if not after.ended:
            kind, text = "heal.watching", f"{after.successor} serves in place of {after.instance}"
            if after.successor == after.instance:
                text = f"{after.instance} serves again"
        else:
            kind, text = f"heal.{after.verdict}", f"{after.id}: {after.why}"
            helped = after.verdict == "helped"
            if after.service and after.verdict != "moot" and after.kind != "exited":
                self._note(draft, Action("heal", after.service, draft.now, helped, after.why))
        draft.event(
            kind,
            text,
            service=after.service or None,
            release=after.release or None,
            instance=after.successor or after.instance or None,
            cause=after.why or after.done,
            data=_about(after),
        )

    def _note(self, draft: Draft, action: Action) -> None:
        draft.put("guard", "guard", noted(draft.world.guard, action))

    # --- whose fault a crash loop is --------------------------------------------------------------

    def _take_back(self, draft: Draft, service: ServiceState, calm: float, excuse: str) -> bool:
        """Roll a deploy back whose release crashes again and again; whether that is under way. Only
        what it did in the time it had no excuse, the last `calm` seconds, is held against it."""
        world = draft.world
        if world.rollout_of(service.name) is not None:
            return False
        what = blame.crash_loop(world, service, draft.now)
        if not what:
            self._said.pop(f"{service.name} crashes", None)
            return False
        held = braked(world.guard, service.name)
        its_own = calm > 0 and blame.crash_loop(world, service, draft.now, calm)
        deploy = blame.deploy_at_fault(world, service, draft.now) if its_own else None
        if deploy is None or held:
            self._alert(draft, service, what, held or excuse)
            return False
        try:
            back = rollback(world, service.name, None, Order("heal", "healing", draft.now))
        except VoleryError as error:
            self._alert(draft, service, what, error.message)
            return False
        draft.event(
            "service.crash_loop",
            f"{service.name}: {what}; it was deployed just now, so it is taken back",
            service=service.name,
            release=deploy.to_release,
            cause=what,
            data={"rollout": back.id, "alert": True},
        )
        bad = world.releases[deploy.to_release]
        draft.put("release", bad.id, replace(bad, reason=what))
        begin_rollout(draft, replace(back, reason=what))
        text = f"{deploy.to_release} is taken back: {what}"
        self._note(draft, Action("rollback", service.name, draft.now, helped=False, text=text))
        return True

    def _alert(self, draft: Draft, service: ServiceState, what: str, held: str) -> None:
        """An incident: told once, until it is over."""
        key = f"{service.name} crashes"
        if key in self._said:
            return
        self._said[key] = what
        live = service.live
        draft.event(
            "service.crash_loop",
            f"{service.name}: {what}; it is restarted with growing pauses",
            service=service.name,
            release=live.release if live else None,
            cause=held or "no deploy of the last 10 minutes is to blame",
            data={"alert": True},
        )

    def _forget(self, draft: Draft) -> None:
        world = draft.world
        for name in {heal.service for heal in world.heals.values()}:
            for old in healing.forgotten(world, name):
                draft.drop("heal", old)
            if name and name not in world.services:
                _drop_orphans(draft, world, name)
        for known in (self._excused_until, self._lacking):
            for gone in known.keys() - world.services.keys():
                del known[gone]


def _drop_orphans(draft: Draft, world: World, name: str) -> None:
    """Heals of a service that is gone."""
    for heal in world.heals_of(name):
        draft.drop("heal", heal.id)


def _about(heal: Heal) -> dict[str, object]:
    return {
        "heal": heal.id,
        "ailment": heal.kind,
        "done": heal.done,
        "evidence": heal.evidence,
        "verdict": heal.verdict or None,
    }
