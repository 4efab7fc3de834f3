"""What a control plane allows itself."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from volery.api.daemon import DESCRIPTORS, allow_descriptors


@pytest.fixture
def hard() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_has_descriptors_for_many_instances(hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    allow_descriptors()
    soft, unchanged = resource.getrlimit(resource.RLIMIT_NOFILE)
    whole = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    assert (soft, unchanged) == (whole, hard)
