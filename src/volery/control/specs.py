"""Documents -> what an engine needs to run one instance: command, folder, environment, secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from volery.decide.by_role import has_roles, replicas_of
from volery.decide.world import World, number_of
from volery.manifest.inherited import inherited
from volery.model.application import Service
from volery.model.ports import InstanceSpec
from volery.model.state import Instance, SlotName
from volery.model.tenure import Tenure

EdgePort = Callable[[str, SlotName, str], int]
SecretValues = Callable[[tuple[str, ...]], Mapping[str, str]]


def env_name(need: str) -> str:
    """The variable that holds a need's address: orders-db -> ORDERS_DB_URL."""
    return need.upper().replace("-", "_") + "_URL"


def replicas_env_name(need: str) -> str:
    """The variable that holds the address of a need's replicas: ORDERS_DB_REPLICAS_URL."""
    return need.upper().replace("-", "_") + "_REPLICAS_URL"


def instance_spec(
    world: World, instance: Instance, home: Path, edge_port: EdgePort, secrets: SecretValues
) -> InstanceSpec:
    """Everything needed to run this instance."""
    release = world.releases[instance.release]
    spec = release.spec
    volume = _volume(home, instance, spec)
    values = secrets(spec.secrets)
    return InstanceSpec(
        id=instance.id,
        service=instance.service,
        release=instance.release,
        command=spec.run,
        directory=str(home / "artifacts" / instance.service / release.artifact / "src"),
        environment=_environment(world, instance, spec, edge_port, volume) | dict(values),
        protocol=spec.protocol,
        health=spec.health,
        resources=spec.resources,
        stop=spec.stop,
        volume=volume,
        role=spec.state.role if spec.state else None,
        secrets=frozenset(values.values()),
    )


def _volume(home: Path, instance: Instance, spec: Service) -> str | None:
    if spec.state is None:
        return None
    folder = f"{spec.state.volume}-{number_of(instance.id)}"
    return str(home / "volumes" / instance.service / folder)


def _environment(
    world: World, instance: Instance, spec: Service, edge_port: EdgePort, volume: str | None
) -> dict[str, str]:
    environment = world.environment
    assert environment is not None
    found = inherited(world.base_env_of(world.releases[instance.release]))
    for need in spec.needs:
        found |= _addresses(world, instance, need, edge_port)
    found |= {
        "VOLERY_APP": environment.application.app,
        "VOLERY_ENVIRONMENT": environment.name,
        "VOLERY_SERVICE": instance.service,
        "VOLERY_RELEASE": instance.release,
        "VOLERY_INSTANCE": instance.id,
    }
    if volume:
        found["VOLERY_VOLUME"] = volume
        found["VOLERY_ORDINAL"] = str(number_of(instance.id))
    if spec.state and spec.state.role:
        found |= _role(world, instance, edge_port)
    return found | spec.env


def _addresses(world: World, instance: Instance, need: str, edge_port: EdgePort) -> dict[str, str]:
    """Where a need is; of one with roles where its primary is and where its replicas are."""
    callee = world.services.get(need)
    scheme = "tcp" if callee and callee.config.protocol == "tcp" else "http"
    wanted = {env_name(need): need}
    if has_roles(world, need):
        wanted[replicas_env_name(need)] = replicas_of(need)
    return {
        variable: f"{scheme}://127.0.0.1:{edge_port(instance.service, instance.slot, name)}"
        for variable, name in wanted.items()
    }


def _known_term(tenure: Tenure) -> int:
    """The highest term that any instance may know. A new one counts from when somebody is asked to
    be its primary: until then the change may be given up, and the present primary goes on."""
    change = tenure.changing
    return max(tenure.term, change.term) if change and change.attempt else tenure.term


def _role(world: World, instance: Instance, edge_port: EdgePort) -> dict[str, str]:
    """As what it starts now, in which term, and where the present primary is."""
    tenure = world.tenures.get(instance.service)
    if tenure is None:  # it had no roles before, and the first place is the first primary's
        is_primary = number_of(instance.id) == 0
    else:
        is_primary = tenure.primary == instance.id and not tenure.changing
    term = 1 if tenure is None else _known_term(tenure)
    own = _addresses(world, instance, instance.service, edge_port)
    empty = {"VOLERY_EMPTY": "1"} if tenure and tenure.emptied and is_primary else {}
    return empty | {
        "VOLERY_ROLE": "primary" if is_primary else "replica",
        "VOLERY_TERM": str(term),
        env_name(instance.service): own[env_name(instance.service)],
    }
