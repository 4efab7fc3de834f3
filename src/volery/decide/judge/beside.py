"""Whether a baseline vouches for harm: failures of a new release that the old group does not have.

A group of the old release that is as young as the new one excuses that what is young is slow. It
must not excuse what users of the old group are spared: fresh instances of both releases fail where
a database has no connection left, and to go on would give everybody instances of that kind. So the
new release's failures are compared with those of the old group as well. This says nothing against
the release; while it goes on, nothing is promoted.
"""

from __future__ import annotations

from dataclasses import replace

from volery.decide.judge.bets import Counts, anew, at_present
from volery.decide.judge.lines import control_failed, percent
from volery.decide.judge.look import check
from volery.decide.judge.policy import Policy
from volery.decide.judge.state import Beside, State
from volery.model.evidence import Arm


def beside(policy: Policy, state: State, canary: Arm, old: Arm) -> State:
    """The state after one tick of the old group, where the control is a baseline."""
    check(old)
    if not policy.same_age:
        return state
    n, n_old = max(canary.requests, canary.failures), max(old.requests, old.failures)
    counts = Counts(n, canary.failures, n_old, old.failures)
    tolerated = policy.promote_rho, policy.error_risk_last
    phi = state.counters["errors"].phi
    present, *totals = state.beside
    found = Beside(
        anew(present, counts, *tolerated, phi),
        *(total + more for total, more in zip(totals, counts, strict=True)),
    )
    return replace(state, beside=found)


def vouches_for_harm(policy: Policy, state: State) -> str:
    """What the baseline excuses and must not; "" if nothing."""
    present, n, k, n_old, k_old = state.beside
    if not policy.same_age or at_present(present) < 1 / policy.beta or not (n and n_old):
        return ""
    return (
        f"{percent(k / n)} of the new release's requests fail, and {percent(k_old / n_old)} of the"
        f" old group's: that the baseline fails"
        f" {control_failed(state.counters['errors'])} does not vouch for it"
    )
