"""What `doctor` says of the environment that was asked for."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from volery.cli.commands.tools import _of_manifest
from volery.cli.session import Session


def test_the_port_of_another_environment_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path / "home"))
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        used, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        manifest = {
            "app": "birds",
            "gateway": {"port": used},
            "services": {"shop": {"run": "sh"}},
            "environments": {"dev": {}, "second": {"gateway_port": free}},
        }
        (tmp_path / "volery.yaml").write_text(yaml.safe_dump(manifest))

        def port_of(environment: str) -> tuple[str, str, str]:
            session = Session(environment, tmp_path / "volery.yaml", "text", yes=False)
            found = _of_manifest(session)[-1]
            return found.name, found.verdict, found.remedy

        assert port_of("second") == (f"gateway {free}", "ok", "")
        name, verdict, remedy = port_of("dev")
        assert (name, verdict) == (f"gateway {used}", "failed")
        assert "or for this environment alone: environments.dev.gateway_port" in remedy
