from __future__ import annotations

from volery.model.evidence import Counters, ProxySample
from volery.traffic.meter import merged

WEB, API = {"web~a": Counters(5, 2)}, {"api~a": Counters(9, 1)}


def test_what_was_read_later_of_some_services_replaces_only_them() -> None:
    before = ProxySample(WEB | API, {"web-1": Counters(5)}, {"gateway~web": Counters(5)})
    after = ProxySample({"web~a": Counters(7, 2), "web~b": Counters(1)}, {"web-2": Counters(1)})
    found = merged(before, after, frozenset({"web"}))
    assert found.groups == {**API, "web~a": Counters(7, 2), "web~b": Counters(1)}
    assert found.instances == {"web-2": Counters(1)}
    assert found.edges == {}
    assert merged(before, after, None).groups == after.groups


def test_a_failure_once_seen_stays_seen() -> None:
    before = ProxySample(WEB)
    assert merged(before, ProxySample({"web~a": Counters(6, 1)}), None).groups == {
        "web~a": Counters(6, 2)
    }
    began_anew = ProxySample({"web~a": Counters(3, 1)})
    assert merged(before, began_anew, None).groups == began_anew.groups
