"""The model: short forms come out as the long form, and JSON comes back as it was."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from volery.model.application import Application, Resources, Service
from volery.model.deploy import Deploy
from volery.model.fields import WRITTEN
from volery.model.needs import Need


def service(**values: Any) -> Service:
    return Service.model_validate({"run": "app"} | values, context=WRITTEN)


def refused(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        service(**values)
    return str(caught.value)


def test_commands_are_split_like_a_shell_would() -> None:
    assert service(run="python 'my app.py' -q").run == ("python", "my app.py", "-q")
    assert service(run=["a", "b c"]).run == ("a", "b c")


def test_build_takes_one_command_or_several() -> None:
    assert service(build="make all").build == (("make", "all"),)
    assert service(build=["make all", ["x", "y z"]]).build == (("make", "all"), ("x", "y z"))


def test_shell_syntax_inside_quotes_is_only_text() -> None:
    assert service(run="sh -c 'a && b'").run == ("sh", "-c", "a && b")


def test_scale_short_and_long() -> None:
    assert (service(scale=3).scale.min, service(scale=3).scale.max) == (3, 3)
    assert service(scale={"min": 2}).scale.max == 2
    long = service(scale={"min": 2, "max": 10, "target": {"concurrency": 8}}).scale
    assert long.target is not None
    assert long.target.concurrency == 8


@pytest.mark.parametrize("value", [True, "3", 0, -1, 2.0, {"min": 5, "max": 2}])
def test_scale_refuses(value: object) -> None:
    assert refused(scale=value)


def test_needs_short_and_long() -> None:
    assert service(needs=["a", "b"]).needs == {"a": Need(), "b": Need()}
    assert service(needs={"a": None}).needs == {"a": Need()}
    assert service(needs={"a": {"timeout": "1s"}}).needs["a"].timeout == 1


def test_a_need_is_listed_once() -> None:
    assert "'a' twice" in refused(needs=["a", "a"])


def test_probe_and_backoff_short_forms() -> None:
    probe = service(health={"ready": "/healthz"}).health.ready
    assert probe is not None
    assert probe.path == "/healthz"
    retry = service(needs={"a": {"retry": {"backoff": "25ms..1s"}}}).needs["a"].retry
    assert retry is not None
    assert (retry.backoff.base, retry.backoff.cap) == (0.025, 1.0)


@pytest.mark.parametrize("value", [5, 0.5, True, None])
def test_written_values_need_their_unit(value: object) -> None:
    assert "must be a duration" in refused(build_timeout=value)


@pytest.mark.parametrize("key", ["build_timeout", "steady_state"])
def test_very_long_values_are_refused_unread(key: str) -> None:
    """Matching units in a megabyte of digits would take hours."""
    text = "1" * 1_000_000
    assert "must be a" in refused(**{key: {"errors": text} if key == "steady_state" else text})


def test_values_of_ours_come_back_from_json() -> None:
    application = Application.model_validate(
        {
            "app": "shop",
            "services": {
                "a": {
                    "run": "app",
                    "needs": {"b": {"timeout": "1s", "retry": {"budget": "10%"}}},
                    "steady_state": {"errors": "< 1%", "latency": {"p99": "<= 300ms"}},
                    "resources": {"cpu": 0.5, "memory": "256Mi"},
                    "health": {"ready": {"tcp": True}},
                    "scale": {"min": 1, "max": 3},
                },
                "b": {"run": "app"},
            },
        },
        context=WRITTEN,
    )
    assert Application.model_validate_json(application.model_dump_json()) == application


def test_overrides_change_only_what_they_say() -> None:
    application = Application.model_validate(
        {
            "app": "shop",
            "services": {"a": {"run": "app", "env": {"A": "1", "B": "1"}, "scale": 2}},
            "environments": {
                "dev": {},
                "prod": {"overrides": {"a": {"scale": 6, "env": {"B": "2"}}}},
            },
        }
    )
    changed = application.in_environment("prod").services["a"]
    assert (changed.scale.min, changed.env) == (6, {"A": "1", "B": "2"})
    assert application.in_environment("dev") == application
    assert application.default_environment == "dev"


@pytest.mark.parametrize(
    ("own", "said", "counts"),
    [
        (
            {"strategy": "canary", "steps": ["5%"], "baseline": True},
            {"approve": True, "steps": ["10%", "50%"]},
            {"strategy": "canary", "steps": ["10%", "50%"], "baseline": True, "approve": True},
        ),
        ({"strategy": "canary", "approve": True}, {"approve": False}, {"strategy": "canary"}),
        ({"strategy": "canary", "approve": True}, {"strategy": "canary"}, None),
        ({"strategy": "canary", "steps": ["5%"]}, {"strategy": "rolling"}, {}),
        ({"unavailable": 1}, {"surge": 0}, {"unavailable": 1, "surge": 0}),
        ({"unavailable": 1}, {}, None),
    ],
)
def test_an_override_of_a_deploy_leaves_what_it_does_not_say(
    own: dict[str, Any], said: dict[str, Any], counts: dict[str, Any] | None
) -> None:
    application = Application.model_validate(
        {
            "app": "shop",
            "services": {"a": {"run": "app", "deploy": own}},
            "environments": {"prod": {"overrides": {"a": {"deploy": said}}}},
        },
        context=WRITTEN,
    )
    service = application.services["a"]
    wished = service.deploy if counts is None else Deploy.model_validate(counts)
    sent = application.model_dump_json(exclude_unset=True)
    for read in (application, Application.model_validate_json(sent)):
        assert read.in_environment("prod").services["a"].deploy == wished


def test_an_override_of_one_limit_leaves_the_others() -> None:
    application = Application.model_validate(
        {
            "app": "shop",
            "services": {"a": {"run": "app", "resources": {"cpu": 1, "memory": "1Gi"}}},
            "environments": {"prod": {"overrides": {"a": {"resources": {"memory": "2Gi"}}}}},
        },
        context=WRITTEN,
    )
    found = application.in_environment("prod").services["a"].resources
    assert found == Resources(cpu=1, memory=2 * 2**30)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"deploy": {"steps": ["5%", "5%"]}}, "must ascend, got 5% after 5%"),
        ({"deploy": {"steps": ["0%"]}}, "must ascend"),
        ({"steady_state": {"errors": "< 300ms"}}, "must be an upper limit such as '< 1%'"),
        ({"steady_state": {"errors": ">= 1%"}}, "must be an upper limit"),
        ({"steady_state": {"latency": {"p99": "< 1%"}}}, "such as '< 300ms'"),
        ({"health": {"ready": {}}}, "exactly one of path, tcp, command"),
        ({"health": {"every": "0s"}}, "greater than 0"),
        ({"env": {"1A": "x"}}, "must be a variable name"),
        ({"secrets": ["A B"]}, "must be a variable name"),
        ({"run": ""}, "must be a command, got nothing"),
        ({"run": "a 'b"}, "cannot be split into words"),
        ({"run": []}, "at least 1 item"),
    ],
)
def test_what_is_refused(values: dict[str, Any], says: str) -> None:
    assert says in refused(**values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python app.py $PORT", ("python", "app.py", "$PORT")),
        ("a && b", ("sh", "-c", "a && b")),
        ("cd x; make", ("sh", "-c", "cd x; make")),
        ("a > log 2>&1", ("sh", "-c", "a > log 2>&1")),
        ("echo 'a && b'", ("echo", "a && b")),
        ("curl http://x/?a=1&b=2", ("curl", "http://x/?a=1&b=2")),
    ],
)
def test_a_shell_runs_only_what_asks_for_one(text: str, words: tuple[str, ...]) -> None:
    assert Service.model_validate({"run": text}).run == words


@pytest.mark.parametrize("steps", [[], [1.0], [0.00001, 0.5]])
def test_steps_that_are_refused_today_may_be_in_a_ledger(steps: list[float]) -> None:
    told = service().model_dump(mode="json")
    told["deploy"]["steps"] = steps
    assert Service.model_validate(told).deploy.shares == tuple(steps)
