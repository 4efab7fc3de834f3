from __future__ import annotations

from envoy.extensions.access_loggers.stats.v3 import stats_pb2
from google.protobuf.message import Message

from volery.traffic import statistics


def first(caller: str) -> Message:
    """What counts every answer."""
    found = stats_pb2.Config()
    statistics.of_requests(caller)[0].typed_config.Unpack(found)
    return found


def test_what_no_request_changes_is_not_formatted_for_each() -> None:
    counter = first("front~a").counters[0].stat
    assert counter.name == "requests.via.front~a"
    assert [(tag.name, tag.value_format) for tag in counter.tags] == [
        ("need", "%ROUTE_NAME%.to.%UPSTREAM_CLUSTER%")
    ]


def test_the_caller_of_a_connection_is_named_after_how_it_ended() -> None:
    found = stats_pb2.Config()
    statistics.of_connections("front~a", "db")[-1].typed_config.Unpack(found)
    [tag] = found.counters[0].stat.tags
    assert (tag.name, tag.value_format.split(".")[1::2]) == ("how", ["via", "need", "to"])
