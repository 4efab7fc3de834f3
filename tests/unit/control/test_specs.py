"""What one instance is told: the names of variables, volumes, and what is inherited."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from volery.control.specs import env_name, instance_spec
from volery.decide.world import World
from volery.manifest.inherited import INHERITED
from volery.model.application import Application
from volery.model.ports import InstanceSpec
from volery.model.state import EnvironmentState, Instance, Release, ServiceState
from volery.model.tenure import Handover, Step, Tenure

CALLER = {"PATH": "/bin", "HOME": "/root", "TZ": "UTC", "AWS_KEY": "junk", "PORT": "1"}


@pytest.mark.parametrize(
    ("need", "variable"),
    [("catalog", "CATALOG_URL"), ("orders-db", "ORDERS_DB_URL"), ("a-b-c2", "A_B_C2_URL")],
)
def test_the_variable_of_a_need(need: str, variable: str) -> None:
    assert env_name(need) == variable


def spec_of(number: int = 1, tenure: Tenure | None = None, **block: Any) -> InstanceSpec:
    """The spec of one instance of `shop`, whose block is given."""
    application = Application.model_validate(
        {
            "app": "trial",
            "services": {
                "shop": {"run": "serve", **block},
                "orders-db": {"run": "db", "protocol": "tcp"},
                "rates": {"run": "rates", "protocol": "grpc"},
            },
        }
    )
    shop = application.services["shop"]
    release = Release("shop@1", "shop", "d1", shop, 0.0)
    world = World(
        environment=EnvironmentState(application, "dev", "/app", base_env=CALLER),
        services={
            name: ServiceState(name, config, 1) for name, config in application.services.items()
        },
        releases={release.id: release},
        tenures={"shop": tenure} if tenure else {},
    )
    item = Instance(f"shop-1-{number}", "shop", "a", release.id, "run", 0.0, 0.0)
    ports = {"orders-db": 20001, "rates": 20002, "shop": 20003, "shop+replicas": 20004}
    return instance_spec(
        world,
        item,
        Path("/home"),
        lambda _, __, need: ports[need],
        lambda names: dict.fromkeys(names, "swordfish"),
    )


def test_only_the_five_inherited_variables_and_our_own() -> None:
    environment = spec_of().environment
    ours = {"VOLERY_APP", "VOLERY_ENVIRONMENT", "VOLERY_SERVICE"}
    ours |= {"VOLERY_RELEASE", "VOLERY_INSTANCE"}
    assert set(environment) == (set(INHERITED) & set(CALLER)) | ours
    assert "VOLERY_VOLUME" not in environment and "PORT" not in environment


def test_pythons_folder_is_last_on_path() -> None:
    """Else `run: python app.py` passes check, build and test, and is not found here."""
    assert spec_of().environment["PATH"] == f"/bin:{Path(sys.executable).parent}"
    assert spec_of(env={"PATH": "/opt/bin"}).environment["PATH"] == "/opt/bin"


def test_addresses_of_needs_say_how_to_speak() -> None:
    environment = spec_of(needs=["orders-db", "rates"]).environment
    assert environment["ORDERS_DB_URL"] == "tcp://127.0.0.1:20001"
    assert environment["RATES_URL"] == "http://127.0.0.1:20002"


def test_the_services_own_words_win() -> None:
    environment = spec_of(env={"TZ": "Asia/Tokyo", "EMPTY": ""}).environment
    assert environment["TZ"] == "Asia/Tokyo" and environment["EMPTY"] == ""


def test_secrets_are_variables_and_marked_to_be_masked() -> None:
    spec = spec_of(secrets=["PAYMENT_KEY"])
    assert spec.environment["PAYMENT_KEY"] == "swordfish"
    assert spec.secrets == frozenset({"swordfish"})
    assert spec_of().secrets == frozenset()


def test_each_place_of_a_stateful_service_has_its_volume() -> None:
    state = {"volume": "data"}
    first, second = spec_of(1, state=state), spec_of(2, state=state)
    assert first.volume == "/home/volumes/shop/data-1"
    assert second.volume == "/home/volumes/shop/data-2"
    assert first.environment["VOLERY_VOLUME"] == first.volume
    assert spec_of().volume is None


@pytest.mark.parametrize(
    ("change", "term"),
    [
        (None, "4"),
        (Handover(1, "switchover", Step.DEMOTE, "shop-0", 5, "asked for", 0.0), "4"),
        (Handover(1, "failover", Step.PROMOTE, "shop-0", 5, "it ended", 0.0, attempt=1), "5"),
        (Handover(1, "failover", Step.CATCH_UP, "shop-2", 6, "it ended", 0.0, attempt=1), "6"),
        (Handover(1, "switchover", Step.ABANDONED, "shop-0", 5, "asked for", 0.0), "4"),
    ],
)
def test_a_new_term_counts_from_when_somebody_is_asked(change: Handover | None, term: str) -> None:
    """A switchover may be given up before: who starts meanwhile has to follow the primary."""
    state = {"volume": "data", "role": "./role"}
    found = spec_of(1, Tenure("shop", "shop-0", 4, 0.0, change), state=state)
    assert found.environment["VOLERY_TERM"] == term
