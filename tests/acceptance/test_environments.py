"""Two environments of one manifest at once: nothing is shared but the source."""

from __future__ import annotations

from acceptance.project import Project, free_port


def test_two_environments_on_one_machine(project: Project) -> None:
    port = free_port()
    project.manifest["environments"] = {
        "dev": {"engine": "local"},
        "staging": {
            "engine": "local",
            "gateway_port": port,
            "overrides": {"catalog": {"scale": 2, "env": {"WHERE": "staging"}}},
        },
        "cloud": {"engine": "kubernetes"},
    }
    project.service("catalog")
    project.ok("up")
    project.ok("--env", "staging", "up")
    staging = project.ok("--env", "staging", "--output", "json", "status").json
    assert staging["gateway"]["url"] == f"http://127.0.0.1:{port}"
    assert len(staging["services"]["catalog"]["instances"]) == 2
    assert len(project.status()["services"]["catalog"]["instances"]) == 1
    project.ok("--env", "staging", "down")
    assert project.version("catalog") == "1", "dev serves on"
    refused = project.volery("--env", "cloud", "up")
    assert refused.code == 6 and "not active yet" in refused.err


def test_a_home_in_the_checkout_is_no_source(project: Project) -> None:
    """As how-to/run-in-ci.md and how-to/several-environments.md have it."""
    project.home = project.folder / ".volery-home"
    project.manifest["environments"] = {
        "dev": {"engine": "local"},
        "staging": {"engine": "local", "gateway_port": free_port()},
    }
    project.service("catalog", source=".", run="python3 catalog/server.py")
    project.ok("--env", "staging", "secret", "set", "KEY", text="s3cret")
    project.ok("up")
    before = project.status()["services"]["catalog"]["release"]
    project.ok("--env", "staging", "up")
    project.ok("up")
    assert project.status()["services"]["catalog"]["release"] == before
    project.ok("--env", "staging", "down")
    artifacts = project.home.glob("trial/*/artifacts/**/*")
    assert not [path for path in artifacts if path.name in ("secrets", ".volery-home")]
