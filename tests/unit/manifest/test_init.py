"""A folder -> a first manifest that passes `read`, with what was found and what was guessed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from volery.manifest.draft import command, joined, service_name, with_port, yaml_text
from volery.manifest.init import SCHEMA_FILE, Draft, detect, render, write
from volery.manifest.read import read
from volery.manifest.tree import data
from volery.manifest.yaml12 import compose
from volery.model.application import Application, Service
from volery.model.errors import Code, VoleryError

Folder = Callable[[dict[str, str]], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder `shop` with these files."""

    def folder(files: dict[str, str]) -> Path:
        root = tmp_path / "shop"
        root.mkdir()
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return root

    return folder


def written(root: Path) -> tuple[Draft, Application]:
    draft = detect(root)
    (root / "volery.yaml").write_text(render(draft), encoding="utf-8")
    return draft, read(root / "volery.yaml")


def service(draft: Draft, name: str) -> Service:
    """One service as the model sees it, whether its commands exist here or not."""
    root, mistakes = compose(render(draft).encode(), "volery.yaml")
    assert not mistakes
    assert root is not None
    tree = data(root)
    assert isinstance(tree, dict)
    return Application.model_validate(tree).services[name]


# --- compose --------------------------------------------------------------------------------------

COMPOSE = """\
name: My Shop
x-common: &common
  environment: {LOG: on, DEBUG: 1.10, TOKEN: "${TOKEN}", PORT: 8000, LEVEL: "${LEVEL:-info}"}
services:
  Web_1:
    <<: *common
    build: ./web
    command: python app.py -b 0.0.0.0:8000
    ports: ["8080:8000"]
    depends_on: {api: {condition: service_healthy}, db: {condition: service_started}}
  api:
    build: {context: api, dockerfile: Dockerfile.prod}
    depends_on: [db]
    environment: ["A=b: c # d", "X", "E=é☃ \\" '", "COST=$$5"]
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost:9000/health"]
      interval: 30s
      retries: 5
      start_period: 1m30s
    ports: ["9000"]
    deploy: {replicas: 3}
  job:
    build: .
    entrypoint: ["sh", "-c"]
    command: ["cd /tmp && sleep 5"]
    environment: {API_URL: "http://api:9000", WEB_1_URL: x}
    depends_on: [api]
    healthcheck: {test: "test -f /tmp/ok || exit 1"}
  remote: {build: "https://example.org/x.git"}
  db: {image: "postgres:17"}
"""
DOCKERFILE = """\
FROM python AS build
CMD ["no"]
FROM python
WORKDIR /app
EXPOSE 9000/tcp
ENTRYPOINT ["python", \\
  "/app/main.py"]
CMD ["--port", "9000"]
"""


def test_a_compose_file(folder: Folder) -> None:
    root = folder({"compose.yaml": COMPOSE, "api/Dockerfile.prod": DOCKERFILE, "web/app.py": ""})
    draft, application = written(root)
    assert application.app == "my-shop"
    web, api, job = (application.services[name] for name in ("web-1", "api", "job"))
    assert web.source == "web"
    assert web.run == ("python", "app.py", "-b", "0.0.0.0:$PORT")
    assert web.env == {"LOG": "on", "DEBUG": "1.10", "LEVEL": "info"}
    assert web.secrets == ("TOKEN",)
    assert list(web.needs) == ["api"]
    assert api.run == ("python", "./main.py", "--port", "$PORT")
    assert api.env == {"A": "b: c # d", "E": "é☃ \" '", "COST": "$5"}
    assert api.secrets == ("X",)
    assert api.health.ready is not None
    assert api.health.ready.path == "/health"
    assert (api.health.every, api.health.failures, api.health.startup) == (30, 5, 90)
    assert api.scale.min == 3
    assert job.run == ("sh", "-c", "cd /tmp && sleep 5")
    assert job.env == {"WEB_1_URL": "x"}
    assert job.health.ready is not None
    assert job.health.ready.command == ("sh", "-c", "test -f /tmp/ok || exit 1")
    routes = [(route.path, route.service, route.strip) for route in application.gateway.routes]
    assert routes == [("/", "web-1", None), ("/api", "api", "/api")]
    assert draft.found == ["compose.yaml: Web_1, api, job"]
    assert any("volery secret set TOKEN" in line for line in draft.guessed)
    assert any("api listened on 9000" in line for line in draft.guessed)
    assert any("API_URL is left out" in line for line in draft.guessed)
    text = render(draft)
    assert "# db is an image (postgres:17)" in text
    assert "# remote is built from https://example.org/x.git" in text


@pytest.mark.parametrize("name", ["compose.yml", "docker-compose.yml", "docker-compose.yaml"])
def test_other_names_of_compose_files(folder: Folder, name: str) -> None:
    root = folder({name: "services: {a: {build: ., command: sh}}"})
    assert list(written(root)[1].services) == ["a"]


def test_a_compose_file_that_cannot_be_read(folder: Folder) -> None:
    draft, application = written(folder({"compose.yaml": "a: [", "Procfile": "web: sh"}))
    assert list(application.services) == ["web"]
    assert draft.notes == [
        "compose.yaml was left out, it cannot be read: compose.yaml:1:5: a value is expected here"
    ]


@pytest.mark.parametrize(
    ("value", "env"),
    [
        ("postgres://u:${PW}@db/x", None),
        ("$A", None),
        ("${A}${B}", None),
        ("${A:?say it}", None),
        ("${A?say it}", None),
        ("${A:+set}", None),
        ("${A:-${B}}", None),
        ("${A:-x}-$B", None),
        ("${A:-x}-${B-}", "x-"),
        ("$$A $${B:-c} $", "$A ${B:-c} $"),
        ("plain {x}", "plain {x}"),
    ],
)
def test_values_that_the_shell_fills_in_are_secrets(
    folder: Folder, value: str, env: str | None
) -> None:
    file = f"services: {{a: {{build: ., command: sh, environment: {{V: {json.dumps(value)}}}}}}}"
    draft, application = written(folder({"compose.yaml": file}))
    a = application.services["a"]
    assert (a.env, a.secrets) == (({"V": env}, ()) if env is not None else ({}, ("V",)))
    assert any("volery secret set V" in line for line in draft.guessed) == (env is None)


def test_what_a_secret_was_made_of_is_said(folder: Folder) -> None:
    file = 'services: {a: {build: ., command: $PORT, environment: {V: "http://${H}/x", W: "$W"}}}'
    draft = detect(folder({"compose.yaml": file}))
    said = "came from your shell, so it is a secret now: volery secret set"
    assert draft.guessed == [f"a: V {said} V (it was: http://${{H}}/x)", f"a: W {said} W"]


MOUNTS = """\
services:
  web:
    build: .
    command: serve
    env_file: [.env, {path: more.env}]
    volumes: ["./src:/app:ro", "data:/data", {type: bind, source: /etc/x, target: /x}, /cache]
    environment: {A: "1"}
  api: {build: ., command: serve, env_file: one.env}
"""


def test_what_a_compose_file_says_and_we_do_not_take_over_is_said(folder: Folder) -> None:
    image = "FROM old\nENV GONE=1\nFROM new\nENV A=2 B='3 4' PORT=80\nENV C d e\n"
    draft = detect(folder({"compose.yaml": MOUNTS, "Dockerfile": image}))
    env = "ENV B, C of Dockerfile is left out: write what it needs under env"
    assert draft.notes == [
        "web: env_file .env, more.env is left out: write what it needs under env, or as secrets",
        "web: mounts ./src:/app, /etc/x:/x are left out: it runs in a clean copy of its source",
        "web: volumes data:/data, /cache are left out: what must be kept needs "
        "`state: {volume: NAME}`",
        f"web: {env}",
        "api: env_file one.env is left out: write what it needs under env, or as secrets",
        "api: ENV A, B, C of Dockerfile is left out: write what it needs under env",
    ]


ODDITIES = """\
services:
  web:
    build: .
    command: serve
    ports: ["80"]
    environment: {A-B: "1", VOLERY_X: "1", PORT: "80"}
    secrets: [key, {source: pem}]
    links: ["api:backend", db]
  api: {build: ., command: serve}
  debug: {build: ., command: serve, profiles: [debug, all]}
  more: {extends: {service: web}}
"""


def test_what_compose_does_in_another_way_is_said(folder: Folder) -> None:
    draft = detect(folder({"compose.yaml": ODDITIES}))
    assert [service.name for service in draft.services] == ["web", "api"]
    assert draft.services[0].needs == ["api"]
    assert draft.notes == [
        "debug is left out: compose starts it only with profile debug, all",
        "more extends another service, which is not followed: add it here",
        "web: environment A-B is left out: a variable has a name without signs, and a text",
        "web: environment VOLERY_X is left out: such names are Volery's own",
        "web: secrets key, pem (files) are left out: name them under `secrets`, they arrive as "
        "variables",
    ]


WORKERS = """\
services:
  web: {build: ., command: serve, ports: ["80"], depends_on: [called]}
  worker: {build: ., command: work, healthcheck: {interval: 3s}}
  called: {build: ., command: serve}
  exposing: {build: ., command: serve, expose: ["9000"]}
  imaged: {build: ./imaged, command: serve}
  probed: {build: ., command: serve, healthcheck: {test: "x"}}
"""


def test_a_worker_of_a_compose_file_has_no_port(folder: Folder) -> None:
    draft = detect(folder({"compose.yaml": WORKERS, "imaged/Dockerfile": "EXPOSE 99\n"}))
    ready = {name: service(draft, name).health.ready for name in ("worker", "called", "imaged")}
    assert ready["worker"] is not None and ready["worker"].command == ("true",)
    assert ready["called"] is None and ready["imaged"] is None
    said = [line for line in draft.guessed if "no ports" in line]
    assert said == ["worker has no ports: it counts as ready as long as it runs"]


def test_the_environment_of_an_image_is_said_to_be_left_out(folder: Folder) -> None:
    image = "ENV A=1\nCMD serve\n"
    files = {"Dockerfile": image, "api/Dockerfile": image, "api/Procfile": "web: a\nworker: b\n"}
    assert [note for note in detect(folder(files)).notes if "ENV" in note] == [
        "shop: ENV A of Dockerfile is left out: write what it needs under env",
        "api: ENV A of Dockerfile is left out: write what it needs under env",
        "worker: ENV A of Dockerfile is left out: write what it needs under env",
    ]


def test_a_procfile_next_to_a_compose_file_is_left_out_and_said_so(folder: Folder) -> None:
    files = {
        "compose.yaml": "services: {web: {build: ., command: serve}, api: {build: api}}",
        "Procfile": "web: serve\nworker: python -m jobs\n",
        "api/Procfile": "web: python api.py\n",
        "api/Dockerfile": "CMD python api.py",
    }
    draft = detect(folder(files))
    assert [service.name for service in draft.services] == ["web", "api"]
    said = "Procfile is left out, compose.yaml says what runs"
    assert draft.notes == [
        f"{said}; not taken over: worker: python -m jobs",
        f"api/{said}",
    ]
    assert f"# {draft.notes[0]}" in render(draft)


def test_a_compose_file_of_images_leaves_the_procfile_in_force(folder: Folder) -> None:
    files = {"compose.yaml": "services: {db: {image: pg}}", "Procfile": "web: serve\n"}
    draft = detect(folder(files))
    assert [service.name for service in draft.services] == ["web"]
    assert not any("left out" in note for note in draft.notes)


def test_only_images(folder: Folder) -> None:
    draft, application = written(folder({"compose.yaml": "services: {db: {image: x}}"}))
    assert list(application.services) == ["web"]
    assert len(draft.notes) == 1


# --- the others -----------------------------------------------------------------------------------


def test_a_procfile(folder: Folder) -> None:
    text = "# x\nweb: python app.py -p $PORT\nwork_er: cd x && sh w | tee log\nrelease: sh m\n: x\n"
    draft, application = written(folder({"Procfile": text}))
    assert application.services["web"].run == ("python", "app.py", "-p", "$PORT")
    assert application.services["work-er"].run == ("sh", "-c", "cd x && sh w | tee log")
    assert [route.service for route in application.gateway.routes] == ["web"]
    assert draft.notes == ["Procfile's release command is not run: sh m"]
    assert draft.found == ["Procfile: web, work_er"]


def test_only_web_gets_a_port_of_a_procfile(folder: Folder) -> None:
    text = "web: python app.py\nworker: sh w\nadmin: python -m http.server $PORT\n"
    draft, application = written(folder({"Procfile": text}))
    ready = {name: service.health.ready for name, service in application.services.items()}
    assert ready["web"] is None and ready["admin"] is None
    assert ready["worker"] is not None and ready["worker"].command == ("true",)
    said = '    health:  # it has no port: ready as long as it runs\n      ready: {command: "true"}'
    assert render(draft).count(said) == 1
    guess = "worker gets no port, as it is not `web`: it counts as ready as long as it runs"
    assert draft.guessed == [guess]


def test_a_procfile_with_a_python_project(folder: Folder) -> None:
    root = folder({"Procfile": "web: gunicorn app:app\n", "requirements.txt": "gunicorn\n"})
    web = written(root)[1].services["web"]
    assert web.build == (
        ("python", "-m", "venv", ".venv"),
        (".venv/bin/python", "-m", "pip", "install", "-q", "-r", "requirements.txt"),
    )
    assert web.run == (".venv/bin/python", "-m", "gunicorn", "app:app")


def test_files_with_a_byte_order_mark(folder: Folder) -> None:
    root = folder({"Procfile": "\ufeffweb: sh a\nworker: sh b\n"})
    assert list(written(root)[1].services) == ["web", "worker"]


def test_requirements_alone(folder: Folder) -> None:
    draft = detect(folder({"requirements.txt": "flask\n", "app.py": ""}))
    assert draft.found == ["requirements.txt"]
    assert draft.services[0].origin == "requirements.txt"


def test_only_paths_in_the_folder_of_the_image_become_relative(folder: Folder) -> None:
    run = "python /app/x.py --a=/app/y /opt/app/z.py http://h/app/y '/app/q r'"
    draft = detect(folder({"Dockerfile": f"WORKDIR /app\nCMD {run}\n"}))
    ours = "python ./x.py --a=./y /opt/app/z.py http://h/app/y './q r'"
    assert draft.services[0].run == ours


def test_a_dockerfile(folder: Folder) -> None:
    root = folder({"Dockerfile": "FROM x\nRUN make\nEXPOSE 80\nCMD python app.py && true\n"})
    draft, application = written(root)
    assert application.services["shop"].run == ("sh", "-c", "python app.py && true")
    assert any("RUN lines" in line for line in draft.guessed)


@pytest.mark.parametrize(
    ("files", "build", "run"),
    [
        ({}, [("npm", "install"), ("npm", "run", "build")], ("npm", "start")),
        ({"package-lock.json": ""}, [("npm", "ci"), ("npm", "run", "build")], ("npm", "start")),
        (
            {"pnpm-lock.yaml": ""},
            [("pnpm", "install", "--frozen-lockfile"), ("pnpm", "run", "build")],
            ("pnpm", "start"),
        ),
    ],
)
def test_a_node_package(
    folder: Folder, files: dict[str, str], build: list[tuple[str, ...]], run: tuple[str, ...]
) -> None:
    package = {
        "scripts": {"start": "node x", "build": "x", "test": "jest"},
        "dependencies": {"a": "1"},
    }
    root = folder({"package.json": json.dumps(package)} | files)
    found = service(detect(root), "shop")
    assert (list(found.build), found.run) == (build, run)
    assert found.test == ((run[0], "test"),)
    if shutil.which("npm") and run[0] == "npm":
        written(root)


def test_the_test_script_npm_init_writes_is_no_test(folder: Folder) -> None:
    script = 'echo "Error: no test specified" && exit 1'
    package = {"scripts": {"start": "node x", "test": script}}
    assert service(detect(folder({"package.json": json.dumps(package)})), "shop").test == ()


@pytest.mark.parametrize(
    ("project", "files", "build", "run"),
    [
        ("[project]\nname='x'\n", ["app.py"], ["python -m compileall -q ."], "python app.py"),
        (
            "[project]\nname='x'\ndependencies=['fastapi']\n",
            ["main.py"],
            ["python -m venv .venv", ".venv/bin/python -m pip install -q ."],
            ".venv/bin/python -m uvicorn main:app --host $HOST --port $PORT",
        ),
        (
            "[project]\nname='x'\ndependencies=['Flask>=3']\n",
            ["app.py"],
            ["python -m venv .venv", ".venv/bin/python -m pip install -q ."],
            ".venv/bin/python -m flask --app app run --host $HOST --port $PORT",
        ),
        (
            "[project]\nname='x'\n[project.scripts]\nx = 'x.cli:main'\n",
            [],
            ["python -m venv .venv", ".venv/bin/python -m pip install -q ."],
            ".venv/bin/python -c 'from x.cli import main; main()'",
        ),
        (
            "[tool.x]\n",
            ["manage.py"],
            ["python -m compileall -q ."],
            "python manage.py runserver --noreload $HOST:$PORT",
        ),
    ],
)
def test_a_python_project(
    folder: Folder, project: str, files: list[str], build: list[str], run: str
) -> None:
    draft = detect(folder({"pyproject.toml": project} | dict.fromkeys(files, "")))
    (found,) = draft.services
    assert (found.build, found.run) == (build, run)
    assert draft.guessed == [f"shop starts with: {run}"]
    assert Application.model_validate({"app": "x", "services": {"a": {"run": run, "build": build}}})


def test_tests_are_only_suggested(folder: Folder) -> None:
    root = folder({"pyproject.toml": "[tool.pytest.ini_options]\n", "app.py": ""})
    assert "    # test: python -m pytest -q\n" in render(detect(root))


def test_folders_below_are_services(folder: Folder) -> None:
    root = folder(
        {
            "api/Procfile": "web: sh a\nworker: sh b\n",
            "front/Dockerfile": "CMD sh c\n",
            "node_modules/x/package.json": "{}",
            ".hidden/Procfile": "web: sh\n",
            "docs/Procfile": "web: sh\n",
            "lib/pyproject.toml": "[project]\nname='lib'\n",
        }
    )
    draft, application = written(root)
    sources = {name: service.source for name, service in application.services.items()}
    assert sources == {"api": "api", "worker": "api", "front": "front"}
    assert draft.notes == ["lib: no command found that starts it; add it with `run:`"]


def test_an_empty_folder(folder: Folder) -> None:
    draft, application = written(folder({}))
    assert draft.found == []
    assert draft.guessed == ["nothing was recognised: `web` serves this folder; change its `run`"]
    assert application.services["web"].run[:3] == ("python", "-m", "http.server")


def test_hostile_files_count_as_absent(folder: Folder) -> None:
    deep = "[" * 200_000
    files = {"package.json": deep, "pyproject.toml": f"a = {deep}", "compose.yaml": deep}
    _, application = written(folder(files | {"Dockerfile": f"CMD {deep}\n"}))
    assert list(application.services) == ["web"]


# --- writing --------------------------------------------------------------------------------------


def test_manifest_and_schema_are_written_once(folder: Folder) -> None:
    root = folder({"Procfile": "web: sh\n"})
    manifest = root / "volery.yaml"
    schema = write(manifest, detect(root))
    first = manifest.read_text(encoding="utf-8")
    assert first.splitlines()[0] == f"# yaml-language-server: $schema=./{SCHEMA_FILE}"
    assert schema == root / SCHEMA_FILE
    Draft7Validator.check_schema(json.loads(schema.read_text(encoding="utf-8")))
    with pytest.raises(VoleryError, match="is there already") as caught:
        write(manifest, Draft("other"))
    assert caught.value.code is Code.CONFLICT
    assert manifest.read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("text", "yaml"),
    [
        ("python app.py", "python app.py"),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ("no", '"no"'),
        ("1.10", '"1.10"'),
        ("1:30", '"1:30"'),
        ("", '""'),
        ("- x", '"- x"'),
        ("*x", '"*x"'),
        ("$PORT", "$PORT"),
        ("é", '"é"'),
        ("a\x00\x1bb", "ab"),
        ("a\nb", '"a\\nb"'),
    ],
)
def test_text_as_yaml(text: str, yaml: str) -> None:
    assert yaml_text(text) == yaml


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("python app.py $PORT", "python app.py $PORT"),
        ("A=1 app", "sh -c 'A=1 app'"),
        ("app > log", "sh -c 'app > log'"),
        ("app 'x", "sh -c 'app '\"'\"'x'"),
        ("app ${X:-1}", "sh -c 'app ${X:-1}'"),
        ("", ""),
    ],
)
def test_shell_lines(text: str, ours: str) -> None:
    assert command(text) == ours


def test_names_and_words() -> None:
    assert service_name("My_App 2") == "my-app-2"
    assert service_name("2") == "s-2"
    assert service_name("é") == "app"
    assert service_name("a", {"a", "a-2"}) == "a-3"
    assert len(service_name("x" * 100)) <= 40
    assert joined(["a", "$PORT", "b c"]) == "a $PORT 'b c'"
    assert (
        with_port("x -p 80 :80 180 8.80 80.1 800", ["80"]) == "x -p $PORT :$PORT 180 8.80 80.1 800"
    )
