"""Whatever the bytes: an application or located mistakes, never another error."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from volery.manifest.init import detect, render
from volery.manifest.lint import lint
from volery.manifest.mistake import ManifestError
from volery.manifest.read import read
from volery.manifest.yaml12 import compose
from volery.model.application import Application

KEYS = [
    "app", "services", "gateway", "routes", "path", "service", "strip", "host", "port", "include",
    "run", "build", "test", "env", "needs", "scale", "min", "max", "health", "ready", "timeout",
    "retry", "on", "backoff", "deploy", "steps", "state", "volume", "environments", "overrides",
    "dev", "a", "b", "source", "secrets", "steady_state", "latency", "p99", "command", "<<",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 3000),
    st.floats(),
    st.sampled_from(["a", "b", "sh", "x y", "1s", "5%", "< 1%", "/", "..", "", "$X", "\x00", "é"]),
    st.text(max_size=8),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=30,
)


def outcome(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volery.yaml"
        path.write_bytes(data)
        try:
            application = read(path)
        except ManifestError as error:
            assert error.mistakes
            for mistake in error.mistakes:
                assert mistake.line >= 1
                assert mistake.column >= 1
                assert str(mistake).isprintable()
                assert "pydantic" not in str(mistake)
                assert "[key]" not in str(mistake)
                assert "Input should" not in str(mistake)
        else:
            assert isinstance(application, Application)
            lint(application)


@given(st.binary(max_size=400))
@settings(max_examples=150)
def test_any_bytes(data: bytes) -> None:
    outcome(data)


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \n\t1<~", max_size=80))
@settings(max_examples=300)
def test_text_that_looks_like_yaml(text: str) -> None:
    outcome(text.encode())


@given(TREES)
@settings(max_examples=200)
def test_any_tree(tree: object) -> None:
    outcome(yaml.safe_dump(tree, allow_unicode=True).encode())


@given(
    st.fixed_dictionaries(
        {"app": st.just("x")},
        optional={"gateway": TREES, "environments": TREES, "include": TREES},
    ),
    st.dictionaries(
        st.sampled_from(["a", "b"]), st.dictionaries(st.sampled_from(KEYS), TREES, max_size=4)
    ),
)
@settings(max_examples=200)
def test_trees_that_are_nearly_right(top: dict[str, object], services: dict[str, object]) -> None:
    for service in services.values():
        assert isinstance(service, dict)
        service["run"] = "sh"
    outcome(yaml.safe_dump(top | {"services": services}, allow_unicode=True).encode())


FOREIGN = ["compose.yaml", "Procfile", "Dockerfile", "package.json", "pyproject.toml"]


@given(
    st.dictionaries(
        st.sampled_from([*FOREIGN, *(f"web/{name}" for name in FOREIGN)]),
        st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8")),
        max_size=4,
    )
)
@settings(max_examples=150)
def test_init_survives_any_files(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        _, mistakes = compose(render(detect(Path(folder))).encode(), "volery.yaml")
        assert mistakes == []


@given(TREES)
@settings(max_examples=150)
def test_init_survives_any_compose_file(tree: object) -> None:
    services: dict[str, object] = {"b": tree}
    services["a"] = {"build": ".", "command": "sh", "environment": tree, "healthcheck": tree}
    if isinstance(tree, dict):
        services["b"] = {"build": ".", "command": tree, "ports": tree, "depends_on": tree, **tree}
    with tempfile.TemporaryDirectory() as folder:
        text = yaml.safe_dump({"services": services}, allow_unicode=True)
        (Path(folder) / "compose.yaml").write_text(text, encoding="utf-8")
        _, mistakes = compose(render(detect(Path(folder))).encode(), "volery.yaml")
        assert mistakes == []
