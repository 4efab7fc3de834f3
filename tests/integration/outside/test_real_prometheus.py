"""Custom metrics asked of a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from integration.outside.asking import SUBJECT, Asker, answer_to, metric, with_asker
from integration.outside.prometheus import PASSWORD, Prometheus, prometheus

from volery.model.ports import Answer, MetricCall

SHARE = (
    'sum(rate(errors_total{service="{service}",release="{release}"}[1m])) / '
    'sum(rate(requests_total{service="{service}",track=~"{track}"}[1m]))'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def asked(server: Prometheus, query: str, limit: str = "< 100") -> Answer:
    answer = answer_to(metric(prometheus=server.url, query=query, limit=limit, timeout="20s"))
    assert PASSWORD not in answer.text
    return answer


def test_each_group_has_its_own_number(server: Prometheus) -> None:
    call = metric(prometheus=server.url, query=SHARE, limit="< 5%", timeout="20s")
    old = replace(call, subject=replace(SUBJECT, release="web@1", track="stable"))
    bad, good = answer_to(call), answer_to(old)
    assert (bad.state, good.state) == ("yes", "yes")
    assert bad.value == pytest.approx(0.2)
    assert good.value == 0
    assert call.metric.by_group


def test_a_scalar_is_a_number_too(server: Prometheus) -> None:
    answer = asked(server, "scalar(sum(crowd)) / 2", limit=">= 5000")
    assert (answer.state, answer.value) == ("yes", 5000.0)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ('requests_total{service="nobody"}', "no data: no series matches the query"),
        ("sum(rate(ghosts_total[1m])) / sum(rate(ghosts_total[1m]))", "NaN: often 0 divided by 0"),
        ("1 / sum(ghosts_total)", 'no number: "+Inf"'),
        ("requests_total", "2 series: make it one number, for example with sum(...)"),
        ("crowd", "more than 1024 KiB of answer: make it one number"),
        ("requests_total[1m]", "a range is no number"),
        ('"four"', "the query gives no number but a string"),
        ("sum(", "answered 400: bad_data: "),
        ('x{a="{relase}"', "answered 400: bad_data: "),
    ],
)
def test_what_is_no_number_is_missing(server: Prometheus, query: str, says: str) -> None:
    answer = asked(server, query)
    assert (answer.state, answer.value) == ("broken", None)
    assert answer.text.startswith(f"http://127.0.0.1:{server.port}/prom/: {says}")


def test_a_wrong_password(server: Prometheus) -> None:
    url = server.url.replace(PASSWORD, "wrong-word")
    answer = answer_to(metric(prometheus=url, query="1", timeout="20s"))
    assert answer.state == "broken"
    assert "answered 401: Unauthorized" in answer.text
    assert "wrong-word" not in answer.text


def test_one_that_hangs_for_a_while(server: Prometheus) -> None:
    def call(every: str) -> MetricCall:
        query = "count(up)"
        return metric(prometheus=server.url, query=query, timeout="1s", every=every)

    async def play(ask: Asker) -> None:
        ask.wish(m=call("100ms"))
        assert (await ask.until("m", lambda answer: answer.state == "yes")).value == 1
        with server.frozen():
            late = await ask.until("m", lambda answer: answer.state == "broken")
            assert late.text.endswith("/prom/api/v1/query: no answer within 1s")
        again = await ask.until("m", lambda answer: answer.state == "yes")
        assert again.at > late.at

    with_asker(play)
