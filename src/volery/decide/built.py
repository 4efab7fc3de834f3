"""Whether a release is ready to be started: built, and tested as far as its rollout asks."""

from __future__ import annotations

from volery.decide.phases import has_begun
from volery.decide.staged import is_asked_for
from volery.model.state import Release, Rollout

BUILT = ("built", "live", "kept")


def is_built(release: Release, rollout: Rollout) -> bool:
    """Whether there is nothing left to build or test. Tests that an earlier rollout skipped are
    made up for, but not where what is live starts again, and never on the way back."""
    if release.state not in BUILT:
        return False
    waived = rollout.skip_tests or release.state == "live" or not is_asked_for(rollout)
    return has_begun(rollout) or waived or release.tested or not release.spec.test
