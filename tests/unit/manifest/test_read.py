"""A broken manifest -> exactly these lines; a good one -> the model."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from volery.manifest.mistake import ManifestError
from volery.manifest.names import names
from volery.manifest.read import find, read
from volery.model.application import Application, Resources, Route, Service
from volery.model.errors import Code, VoleryError

Mistakes = Callable[..., list[str]]
Read = Callable[..., Application]
Write = Callable[..., Path]
LEFT_OUT = "0s is not 'no limit': leave it out for the default"
HEAD = "app: shop\nservices:\n  a:\n    run: sh\n"


@pytest.mark.parametrize(
    ("more", "lines"),
    [
        ("    scale: 0\n", ["5:12: services.a.scale: must be at least 1, got 0"]),
        ("    scale: 2000\n", ["5:12: services.a.scale: must be at most 1000, got 2000"]),
        ("    scale: '2'\n", ["5:12: services.a.scale: must be a number of instances or "
                              "{min, max, target}, got '2'"]),
        ("    scale: {min: 5, max: 2}\n", ["5:5: services.a.scale: max must be at least min, "
                                           "got 5 and 2"]),
        ("    scale: {min: 0, max: 3}\n", ["5:18: services.a.scale.min: must be at least 1, got 0: "
                                           "scaling to nothing is not active yet"]),
        ("    scael: 3\n", ["5:5: services.a.scael: unknown key 'scael'; did you mean 'scale'?"]),
        ("    evn: {}\n", ["5:5: services.a.evn: unknown key 'evn'; did you mean 'env'?"]),
        ("    depends_on: [b]\n", ["5:5: services.a.depends_on: unknown key 'depends_on'; did you "
                                   "mean 'needs'?"]),
        ("    image: x\n    ports: [80]\n    restart: always\n    cmd: x\n    start: x\n", [
            "5:5: services.a.image: unknown key 'image': no image is run here: `run` is a command "
            "that starts it",
            "6:5: services.a.ports: unknown key 'ports': it listens on $PORT, and gateway.routes "
            "bring users to it",
            "7:5: services.a.restart: unknown key 'restart': what ends is always started again",
            "8:5: services.a.cmd: unknown key 'cmd'; did you mean 'run'?",
            "9:5: services.a.start: unknown key 'start'; did you mean 'run'?"]),
        ("    path: x\n", ["5:5: services.a.path: unknown key 'path'"]),
        ("    team: |\n      a\n      b\n", ["5:11: services.a.team: must be one line of text, got "
                                                    "'a\\nb\\n'"]),
        ("    source:\n", ["5:12: services.a.source: must be text, got nothing"]),
        ("    stop: {foo: 1s}\n", ["5:12: services.a.stop.foo: unknown key 'foo'; known here: "
                                   "drain, grace"]),
        ("    team: 5\n", ["5:11: services.a.team: must be text, got 5; put it in quotes"]),
        ("    test:\n", ["5:10: services.a.test: must be a list, got nothing"]),
        ("    protocol: htpp\n", ["5:15: services.a.protocol: must be 'http', 'http2', 'grpc' or "
                                  "'tcp', got 'htpp'; did you mean 'http'?"]),
        ("    env: {A: null}\n", ["5:14: services.a.env.A: must be text, got nothing; write '' "
                                  "for empty text"]),
        ("    env: {A: [x]}\n", ["5:11: services.a.env.A: must be text, got a list"]),
        ("    env: {a b: x}\n", ["5:11: services.a.env.'a b': must be a variable name such as "
                                 "LOG_LEVEL, got 'a b'"]),
        ("    env: [A=1]\n", ["5:5: services.a.env: must be a mapping, got a list"]),
        ("    build_timeout: 5\n", ["5:20: services.a.build_timeout: must be a duration such as "
                                    "300ms, 2s, 10m or 1h, got 5; did you mean 5s?"]),
        ("    build_timeout: 5x\n", ["5:20: services.a.build_timeout: must be a duration such as "
                                     "300ms, 2s, 10m or 1h, got '5x'"]),
        ("    resources: {cpu: lots, memory: 5}\n", [
            "5:22: services.a.resources.cpu: must be a number, got 'lots'",
            "5:36: services.a.resources.memory: must be a size such as 256Mi or 1Gi, got 5"]),
        ("    resources: {memory: 1025Ti, pids: 5000000, files: 2000000000}\n", [
            "5:25: services.a.resources.memory: must be at most 1024Ti, got '1025Ti'",
            "5:39: services.a.resources.pids: must be at most 4194304, got 5000000",
            "5:55: services.a.resources.files: must be at most 1073741824, got 2000000000"]),
        ("    max_age: 31d\n", ["5:14: services.a.max_age: must be at most 30d, got '31d'"]),
        ("    health: {every: 0s, failures: 1.5}\n", [
            "5:21: services.a.health.every: must be more than 0, got '0s'",
            "5:35: services.a.health.failures: must be a whole number, got 1.5"]),
        ("    build_timeout: 0s\n    test_timeout: 0s\n    deploy: {at_most: 0.5ms}\n", [
            f"5:20: services.a.build_timeout: must be at least 1ms, got 0s; {LEFT_OUT}",
            f"6:19: services.a.test_timeout: must be at least 1ms, got 0s; {LEFT_OUT}",
            f"7:23: services.a.deploy.at_most: must be at least 1ms, got 0.0005s; {LEFT_OUT}"]),
        ("    health: {ready: healthz, live: {}}\n", [
            "5:21: services.a.health.ready: must be a path such as /healthz, got 'healthz'",
            "5:30: services.a.health.live: must have exactly one of path, tcp, command"]),
        ("    health: {ready: {tcp: false}}\n", ["5:27: services.a.health.ready.tcp: must be "
                                                 "true, got false"]),
        ("    health: {ready: 5}\n", ["5:21: services.a.health.ready: must be a path such as "
                                      "/healthz, {tcp: true} or {command: ...}, got 5"]),
        ("    deploy: {approve: yes}\n", ["5:23: services.a.deploy.approve: must be true or "
                                          "false, got 'yes'"]),
        ("    deploy: {steps: [5%, 1%]}\n", ["5:14: services.a.deploy.steps: must ascend, got 1% "
                                             "after 5%"]),
        ("    deploy: {steps: []}\n", [
            "5:14: services.a.deploy.steps: must have a share below 100%; strategy: blue-green "
            "gives all requests at once"]),
        ("    deploy: {steps: [100%]}\n", [
            "5:14: services.a.deploy.steps: must have a share below 100%; strategy: blue-green "
            "gives all requests at once"]),
        ("    deploy: {steps: [0.001%, 5%]}\n", [
            "5:14: services.a.deploy.steps: must begin with 0.01% or more, got 0.001%"]),
        ("    deploy: {steps: [5]}\n", ["5:22: services.a.deploy.steps[0]: must be a percentage "
                                        "such as 5%, got 5"]),
        ("    deploy: {surge: 0}\n", ["5:5: services.a.deploy: surge and unavailable cannot both "
                                      "be 0: nothing could ever move"]),
        ("    steady_state: {errors: 5, latency: {p98: < 1s, p99: < 1%}}\n", [
            "5:28: services.a.steady_state.errors: must be a condition such as '< 1%' or "
            "'<= 300ms', got 5",
            "5:41: services.a.steady_state.latency.p98: must be 'p50', 'p90', 'p95', 'p99' or "
            "'p999', got 'p98'",
            "5:57: services.a.steady_state.latency.p99: must be an upper limit such as "
            "'< 300ms', got '< 1%'"]),
        ("    test: []\n    test: []\n", ["6:5: services.a.test: duplicate key 'test'; the first "
                                          "is on line 5"]),
        ("  b:\n", ["5:5: services.b: must be a mapping, got nothing"]),
        ("  b: {}\n", ["5:3: services.b: key 'run' is missing"]),
        ("  b_c: {run: sh}\n", ["5:3: services.b_c: must be a name of lower-case letters, digits "
                                "and '-' (at most 40, a letter first), got 'b_c'"]),
        ("gateway: {port: 0, host: localhost}\n", [
            "5:17: gateway.port: must be at least 1, got 0",
            "5:26: gateway.host: must be an IP address such as 127.0.0.1 or 0.0.0.0, got "
            "'localhost'"]),
        ("gateway: {port: '80'}\n", ["5:17: gateway.port: must be a whole number, got '80'; "
                                     "remove the quotes"]),
        ("gateway: {routes: [{path: x, service: a}]}\n", [
            "5:27: gateway.routes[0].path: must be a path such as /api, got 'x'"]),
        ("gateway: {routes: [{path: /}]}\n", ["5:20: gateway.routes[0]: key 'service' is "
                                              "missing"]),
        ("environments: {}\nservice: {}\n", [
            "5:1: environments: must not be empty",
            "6:1: service: unknown key 'service'; did you mean 'services'?"]),
        ("environments: {dev: {engine: locl}}\n", ["5:30: environments.dev.engine: must be "
            "'local', 'docker' or 'kubernetes', got 'locl'; did you mean 'local'?"]),
    ],
)  # fmt: skip
def test_values(mistakes: Mistakes, more: str, lines: list[str]) -> None:
    assert mistakes(HEAD + more) == lines


@pytest.mark.parametrize(
    ("needs", "lines"),
    [
        ("[b, 5]", ["5:5: services.a.needs: must be a list of service names, or a mapping of "
                    "them to policies, got a list"]),
        ("[B]", ["5:13: services.a.needs.B: must be a name of lower-case letters, digits and '-' "
                 "(at most 40, a letter first), got 'B'"]),
        ("[catalgo]", ["5:13: services.a.needs.catalgo: unknown service 'catalgo'; did you mean "
                       "'catalog'?"]),
        ("{zzz: }", ["5:13: services.a.needs.zzz: unknown service 'zzz'"]),
        ("[a]", ["5:13: services.a.needs.a: a service cannot need itself"]),
        ("{db: {timeout: 0s, retry: {per_try: 0ms}}}", [
            f"5:27: services.a.needs.db.timeout: must be at least 1ms, got 0s; {LEFT_OUT}",
            f"5:48: services.a.needs.db.retry.per_try: must be at least 1ms, got 0s; {LEFT_OUT}"]),
        ("[db, db-replicas]", ["5:17: services.a.needs.db-replicas: DB_REPLICAS_URL is the address "
                               "of the replicas of db already; give the service another name"]),
        ("{catalog: {retry: {backoff: 250ms..25ms}}}", [
            "5:40: services.a.needs.catalog.retry.backoff: the longest wait must be at least the "
            "first: 25ms..250ms"]),
        ("{catalog: {retry: {attempts: 20, backoff: fast, on: [5x], budget: 20}}}", [
            "5:41: services.a.needs.catalog.retry.attempts: must be at most 10, got 20",
            "5:54: services.a.needs.catalog.retry.backoff: must be a duration such as 300ms, 2s, "
            "10m or 1h, got 'fast'",
            "5:65: services.a.needs.catalog.retry.on[0]: must be 'connect', 'reset', '5xx', "
            "'timeout' or 'gateway-error', got '5x'; did you mean '5xx'?",
            "5:78: services.a.needs.catalog.retry.budget: must be a percentage such as 5%, "
            "got 20"]),
    ],
)  # fmt: skip
def test_needs(mistakes: Mistakes, needs: str, lines: list[str]) -> None:
    rest = "  catalog: {run: sh}\n  db-replicas: {run: sh}\n"
    rest += "  db: {run: sh, protocol: tcp, state: {volume: d, role: sh}}\n"
    assert mistakes(f"{HEAD}    needs: {needs}\n{rest}") == lines


@pytest.mark.parametrize(
    ("rest", "lines"),
    [
        ("  a: {run: sh, needs: [b]}\n  b: {run: sh, needs: [c]}\n  c: {run: sh, needs: [a]}\n",
         ["3:24: services.a.needs.b: needs go in a circle: a -> b -> c -> a; remove one, or make "
          "it `importance: degradable`"]),
        ("  a: {run: sh, needs: [b]}\n  b: {run: sh, needs: [a]}\n"
         "  c: {run: sh, needs: [d]}\n  d: {run: sh, needs: [c]}\n",
         ["3:24: services.a.needs.b: needs go in a circle: a -> b -> a; remove one, or make "
          "it `importance: degradable`",
          "5:24: services.c.needs.d: needs go in a circle: c -> d -> c; remove one, or make "
          "it `importance: degradable`"]),
        ("  a: {run: sh, env: {PORT: 1, VOLERY_X: 1, B_C_URL: x, OK: 1}, needs: [b-c]}\n"
         "  b-c: {run: sh}\n",
         ["3:22: services.a.env.PORT: is set by Volery (where to listen); use another name",
          "3:31: services.a.env.VOLERY_X: is set by Volery (names that start with VOLERY_ are its "
          "own); use another name",
          "3:44: services.a.env.B_C_URL: is set by Volery (the address of b-c); use another name"]),
        ("  a: {run: sh, env: {A_URL: 1}, secrets: [B]}\n"
         "  a-db: {run: sh, state: {volume: v, role: sh}, env: {A_DB_URL: x}}\n",
         ["4:55: services.a-db.env.A_DB_URL: is set by Volery (the address of its primary); use "
          "another name"]),
        ("  a: {run: sh, env: {A: 1}, secrets: [A, B, B, HOST]}\n",
         ["3:39: services.a.secrets[0]: 'A' is also in env; keep one of the two",
          "3:45: services.a.secrets[2]: 'B' is listed twice",
          "3:48: services.a.secrets[3]: is set by Volery (where to listen); use another name"]),
        ("  a: {run: sh, state: {volume: x}, deploy: {strategy: blue-green}}\n",
         ["3:55: services.a.deploy.strategy: must be rolling or recreate for a service with state "
          "(two groups would share its volume), got 'blue-green'"]),
        ("  a: {run: sh}\nenvironments:\n"
         "  dev: {overrides: {b: {scale: 1}, a: {env: {PORT: 1}}}}\n",
         ["5:21: environments.dev.overrides.b: unknown service 'b'",
          "5:46: environments.dev.overrides.a.env.PORT: is set by Volery (where to listen); use "
          "another name"]),
        ("  a: {run: sh, deploy: {unavailable: 1}}\nenvironments:\n"
         "  dev: {overrides: {a: {deploy: {surge: 0}}}}\n"
         "  live: {overrides: {a: {deploy: {surge: 0, unavailable: 0}}}}\n",
         ["6:26: environments.live.overrides.a.deploy: surge and unavailable cannot both be 0: "
          "nothing could ever move"]),
        ("  a: {run: sh}\n  t: {run: sh, protocol: tcp}\n"
         "gateway:\n  routes:\n    - {path: /, service: b}\n    - {path: /x/, service: a}\n"
         "    - {path: /x, service: a, strip: /y}\n    - {path: /t, service: t}\n"
         "    - {path: /x, host: h, service: a, strip: /x}\n"
         "    - {path: /x/, host: H, service: a}\n"
         "    - {path: /z, service: a}\n    - {path: /z, host: '*', service: a}\n"
         "    - {path: /käse, service: a}\n    - {path: /k%C3%A4se/, service: a, strip: /käse}\n",
         ["7:26: gateway.routes[0].service: unknown service 'b'",
          "9:14: gateway.routes[2].path: collides with gateway.routes[1] (to a): same path "
          "and host",
          "9:37: gateway.routes[2].strip: must be a prefix of path '/x' on whole segments, got "
          "'/y'",
          "10:27: gateway.routes[3].service: must be a service that speaks HTTP; 't' has protocol "
          "tcp",
          "12:14: gateway.routes[5].path: collides with gateway.routes[4] (to a): same path "
          "and host",
          "14:14: gateway.routes[7].path: collides with gateway.routes[6] (to a): same path "
          "and host",
          "16:14: gateway.routes[9].path: collides with gateway.routes[8] (to a): same path "
          "and host"]),
        ("  a: {run: sh, scale: 0, source: nowhere, needs: [x]}\n  b: {needs: [a, y]}\n",
         ["3:23: services.a.scale: must be at least 1, got 0",
          "3:34: services.a.source: no such folder: 'nowhere'",
          "3:51: services.a.needs.x: unknown service 'x'",
          "4:3: services.b: key 'run' is missing",
          "4:18: services.b.needs.y: unknown service 'y'"]),
    ],
)  # fmt: skip
def test_the_manifest_agrees_with_itself(mistakes: Mistakes, rest: str, lines: list[str]) -> None:
    assert mistakes("app: shop\nservices:\n" + rest) == lines


@pytest.mark.parametrize(
    ("rest", "lines"),
    [
        ("  w: {run: sh}\ngateway:\n  routes:\n    - {path: /, service: W W}\n"
         "    - {path: /y}\n    - {path: /a, service: nope}\n    - {path: /a, service: w}\n",
         ["6:26: gateway.routes[0].service: must be a name of lower-case letters, digits and '-' "
          "(at most 40, a letter first), got 'W W'",
          "7:7: gateway.routes[1]: key 'service' is missing",
          "8:27: gateway.routes[2].service: unknown service 'nope'",
          "9:14: gateway.routes[3].path: collides with gateway.routes[2] (to nope): same path "
          "and host"]),
        ("  w: {run: sh}\ngateway:\n  routes:\n    - {path: /, service: w, host: a b}\n"
         "    - {path: /, service: w}\n",
         ["6:35: gateway.routes[0].host: must be a host name such as shop.example.com, got "
          "'a b'"]),
        ("  w: {run: sh, secrets: [a-b, A, c d, B, A]}\n",
         ["3:26: services.w.secrets[0]: must be a variable name such as LOG_LEVEL, got 'a-b'",
          "3:34: services.w.secrets[2]: must be a variable name such as LOG_LEVEL, got 'c d'",
          "3:42: services.w.secrets[4]: 'A' is listed twice"]),
        ("  w: {run: sh, deploy: {gates: [{command: sh, url: /}, {command: nosuch}]}}\n",
         ["3:33: services.w.deploy.gates[0]: must have exactly one of command, url",
          "3:66: services.w.deploy.gates[1].command: command 'nosuch' is not on PATH; install it, "
          "or give its path beside the manifest"]),
        ("  w: {run: sh, needs: [B, x]}\n",
         ["3:24: services.w.needs.B: must be a name of lower-case letters, digits and '-' (at "
          "most 40, a letter first), got 'B'",
          "3:27: services.w.needs.x: unknown service 'x'"]),
        ("  w: {run: ./made, build: \"'\", test: [~, [sh, [], x], ./made, nosuch]}\n",
         ["3:27: services.w.build: cannot be split into words: no closing quotation in "
          "\"'\"",
          "3:39: services.w.test[0]: must be a list, got nothing",
          "3:47: services.w.test[1][1]: must be text, got a list",
          "3:63: services.w.test[3]: command 'nosuch' is not on PATH; install it, or give its "
          "path in source"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_list_hides_no_other(
    mistakes: Mistakes, rest: str, lines: list[str]
) -> None:
    assert mistakes("app: shop\nservices:\n" + rest) == lines


def test_a_number_is_no_name(mistakes: Mistakes) -> None:
    said = "1:6: app: must be text, got 12; a name begins with a letter"
    assert mistakes("app: 12\nservices: {a: {run: sh}}\n") == [said]


def test_a_backoff_may_have_space_in_it(application: Read) -> None:
    needs = "{b: {retry: {backoff: 25ms .. 250ms}}, c: {retry: {backoff: {base: 1s}}}}"
    read = application(f"{HEAD}    needs: {needs}\n  b: {{run: sh}}\n  c: {{run: sh}}\n")
    retry = read.services["a"].needs["b"].retry
    assert retry is not None and (retry.backoff.base, retry.backoff.cap) == (0.025, 0.25)


def test_a_degradable_need_does_not_order(application: Read) -> None:
    text = "app: shop\nservices:\n  a: {run: sh, needs: [b]}\n"
    text += "  b: {run: sh, needs: {a: {importance: degradable}}}\n"
    assert set(application(text).services) == {"a", "b"}


@pytest.mark.parametrize(
    ("service", "lines"),
    [
        ("run: gunicornn app", ["3:12: services.a.run: command 'gunicornn' is not on PATH; "
                                "install it, or give its path in source"]),
        ("run: start.sh", ["3:12: services.a.run: command 'start.sh' is not on PATH; write "
                           "./start.sh to run the file in source"]),
        ("run: ./gone.sh", ["3:12: services.a.run: no such file: './gone.sh' in source, and no "
                            "`build` makes it"]),
        ("run: ./plain.txt x", ["3:12: services.a.run: './plain.txt' is not executable; chmod +x "
                                "./plain.txt"]),
        ("run: /nonexistent/x", ["3:12: services.a.run: no such file: '/nonexistent/x'"]),
        ("run: sh, build: [cd web, sh x]", [
            "3:24: services.a.build[0]: 'cd' is a word of the shell and lasts as long as it; write "
            "both commands as one: cd ... && ..."]),
        ("build: [./gone.sh, ./made.sh], run: ./made.sh, test: ./made.sh",
         ["3:15: services.a.build[0]: no such file: './gone.sh' in source, and no `build` makes "
          "it"]),
    ],
)  # fmt: skip
def test_commands_that_cannot_be_found(mistakes: Mistakes, service: str, lines: list[str]) -> None:
    files = {"start.sh": "", "plain.txt": ""}
    assert mistakes(f"app: shop\nservices:\n  a: {{{service}}}\n", files) == lines


def test_every_kind_of_command_is_looked_for(mistakes: Mistakes) -> None:
    line = (
        "  a: {build: [sh -c true, nope1], test: nope2, run: [nope3, 1], "
        "health: {ready: {command: nope4}}, state: {volume: v, role: nope5, switchover: nope6}}"
    )
    paths = ["build[1]", "test", "run", "health.ready.command", "state.role", "state.switchover"]
    starts = [line.index(f"nope{number}") for number in range(1, 7)]
    starts[2] = line.index("run:")  # a list is shown by its key
    assert mistakes(f"app: shop\nservices:\n{line}\n") == [
        f"3:{start + 1}: services.a.{path}: command 'nope{number}' is not on PATH; install it, or "
        "give its path in source"
        for number, (start, path) in enumerate(zip(starts, paths, strict=True), 1)
    ]


@pytest.mark.parametrize(
    "service",
    [
        "run: $COMMAND x",
        "run: python app.py",
        "run: nope, env: {PATH: /opt/bin}",
        "build: make-it-up, run: ./made.sh, env: {PATH: /opt/bin}",
        "run: /bin/sh",
    ],
)
def test_commands_that_may_be_found(application: Read, service: str) -> None:
    assert application(f"app: shop\nservices:\n  a: {{{service}}}\n")


def test_commands_are_not_looked_for_when_nothing_runs_here(application: Read) -> None:
    text = "app: shop\nservices: {a: {run: nope}}\nenvironments: {p: {engine: docker}}\n"
    assert application(text).services["a"].run == ("nope",)


def test_the_folder_of_our_python_counts_as_path(
    application: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("")
    tool.chmod(stat.S_IRWXU)
    monkeypatch.setattr("sys.executable", str(tool.with_name("python")))
    assert application("app: shop\nservices: {a: {run: tool}}\n")


def test_what_was_stored_before_there_was_a_limit_is_read() -> None:
    assert Resources.model_validate({"pids": 5_000_000, "memory": 2**60}).pids == 5_000_000


def test_environment_values_keep_their_spelling(application: Read) -> None:
    text = HEAD + "    env: {A: 1.10, B: no, C: 0x10, D: 007, E: true, F: 1e3, G: '', H: ~x}\n"
    text += "environments: {dev: {overrides: {a: {env: {A: 2.20}}}}}\n"
    read = application(text)
    assert read.services["a"].env == {
        "A": "1.10", "B": "no", "C": "0x10", "D": "007", "E": "true", "F": "1e3", "G": "",
        "H": "~x",
    }  # fmt: skip
    assert read.environments["dev"].overrides["a"].env == {"A": "2.20"}


def test_words_of_commands_keep_their_spelling(application: Read) -> None:
    asked = "{gates: [{command: [sh, 1.10]}], metrics: {m: {command: [sh, no], limit: < 1}}}"
    a = f"{{run: [sh, 1.10, no], build: [[sh, 010]], deploy: {asked}}}"
    over = f"{{dev: {{overrides: {{a: {{deploy: {asked}}}}}}}}}"
    read = application(f"app: shop\nservices: {{a: {a}}}\nenvironments: {over}\n")
    for found in (read, read.in_environment("dev")):
        deploy = found.services["a"].deploy
        assert deploy.gates[0].command == ("sh", "1.10")
        assert deploy.metrics["m"].command == ("sh", "no")
    assert read.services["a"].run == ("sh", "1.10", "no")
    assert read.services["a"].build == (("sh", "010"),)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("|\n  echo a\n  exit 3\n", ("sh", "-ec", "echo a\nexit 3")),
        ("|\n  # don't\n  echo a\n", ("sh", "-ec", "# don't\necho a")),
        ("|\n  serve \\\n    --fast\n", ("sh", "-ec", "serve \\\n  --fast")),
        ("|\n  a && b\n  c\n", ("sh", "-ec", "a && b\nc")),
        ("|\n  sh -c 'a\n  b'\n", ("sh", "-c", "a\nb")),
        ("|\n  sh one\n", ("sh", "one")),
        (">\n  sh one\n  two\n", ("sh", "one", "two")),
        (">\n  sh one\n    two\n", ("sh", "one", "two")),
        ("|\n  a &&\n    b\n", ("sh", "-ec", "a &&\n  b")),
        ("sh one\n  two\n", ("sh", "one", "two")),
        ("sh a && b", ("sh", "-c", "sh a && b")),
    ],
)
def test_commands_of_several_lines_are_a_script(
    application: Read, written: str, words: tuple[str, ...]
) -> None:
    indented = written.replace("\n", "\n    ")
    text = f"app: x\nservices:\n  a:\n    run: {indented}\n"
    text += "environments: {dev: {engine: docker}}\n"
    assert application(text).services["a"].run == words


@pytest.mark.parametrize(
    "command",
    [
        "a && b",
        "a&&b",
        "a ||b",
        "a | b",
        "a |b",
        "a; b",
        "a 'x'; b",
        "a & b",
        "a& b",
        "a > log",
        "a >log",
        "a 2>/dev/null",
        "a 2>&1",
        "a &>log",
        "a <file",
        "a $(date)",
        'a "on $(date)"',
        "a `date`",
        "a -b 0.0.0.0:${PORT:-8000}",
        "A=1 b",
        "exec ./a",
    ],
)
def test_what_only_a_shell_understands_is_run_by_one(command: str) -> None:
    assert Service.model_validate({"run": command}).run == ("sh", "-c", command)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("a http://b/?c=1&d=2", ("a", "http://b/?c=1&d=2")),
        ("a --to=b;c=d x|y", ("a", "--to=b;c=d", "x|y")),
        ("a ';' \\; 'b && c' '> d' '$(e)' '`'", ("a", ";", ";", "b && c", "> d", "$(e)", "`")),
        ('a "b; c" "\\$(d)" "it\'s"', ("a", "b; c", "\\$(d)", "it's")),
        ("a $PORT ${PORT} --b=c executor", ("a", "$PORT", "${PORT}", "--b=c", "executor")),
        ("a *.py ~/x {b,c}", ("a", "*.py", "~/x", "{b,c}")),
    ],
)
def test_what_is_quoted_or_part_of_a_word_needs_no_shell(
    command: str, words: tuple[str, ...]
) -> None:
    assert Service.model_validate({"run": command}).run == words


def test_a_service_may_have_the_name_of_a_key(mistakes: Mistakes) -> None:
    text = "app: shop\nservices:\n  scale: {run: sh, scael: 1}\n  env: {run: sh, team: 5}\n"
    assert mistakes(text) == [
        "3:20: services.scale.scael: unknown key 'scael'; did you mean 'scale'?",
        "4:24: services.env.team: must be text, got 5; put it in quotes",
    ]


def test_hostile_text_is_shown_on_one_short_line(mistakes: Mistakes) -> None:
    (line,) = mistakes(HEAD + f'    protocol: "{"x" * 5000}\\n\\e[31m"\n')
    assert len(line) < 300
    assert line.isprintable()
    (line,) = mistakes(HEAD + f'    "{"k" * 900}\\n": 1\n')
    assert len(line) < 300
    assert line.isprintable()


# --- files ----------------------------------------------------------------------------------------


def test_the_error_is_one_of_ours(mistakes: Mistakes) -> None:
    mistakes(HEAD + "    scale: 0\n    team: 1\n")
    with pytest.raises(ManifestError) as caught:
        read(Path("volery.yaml"))
    error = caught.value
    assert isinstance(error, VoleryError)
    assert error.code is Code.INVALID
    assert error.where == "volery.yaml:5:12"
    assert error.message.splitlines() == [str(mistake) for mistake in error.mistakes]
    assert error.mistakes[0].path == "services.a.scale"


def test_places_are_shown_relative_to_the_current_folder(
    mistakes: Mistakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistakes(HEAD + "    scale: 0\ninclude: [b/v.yaml]\n", {"b/v.yaml": "- x\n"})
    with pytest.raises(ManifestError) as caught:
        read(tmp_path / "volery.yaml")
    assert [item.file for item in caught.value.mistakes] == ["volery.yaml", "b/v.yaml"]
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ManifestError) as caught:
        read(Path("../volery.yaml"))
    assert [item.file for item in caught.value.mistakes] == ["../volery.yaml", "../b/v.yaml"]
    with pytest.raises(ManifestError) as caught:
        read(tmp_path / "volery.yaml")
    assert caught.value.mistakes[0].file == str(tmp_path / "volery.yaml")


@pytest.mark.parametrize("look", [read, names])
def test_no_manifest(tmp_path: Path, look: Callable[[Path], object]) -> None:
    path = tmp_path / "volery.yaml"
    with pytest.raises(VoleryError) as caught:
        look(path)
    assert caught.value.code is Code.INVALID
    assert caught.value.message == f"there is no file {path}"
    assert caught.value.hint == "check the path: --file names the manifest"


def test_found_in_a_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "volery.yaml").write_text("")
    assert find(below) == tmp_path / "volery.yaml"
    monkeypatch.chdir(below)
    assert find(Path()) == Path("../../volery.yaml")
    monkeypatch.chdir(tmp_path)
    assert find(Path()) == Path("volery.yaml")


def test_found_nowhere(tmp_path: Path) -> None:
    with pytest.raises(VoleryError, match=r"no volery\.yaml here") as caught:
        find(tmp_path)
    assert caught.value.hint == "volery init"


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "volery.yaml")
    with pytest.raises(ManifestError, match="must be a regular file"):
        read(tmp_path / "volery.yaml")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ManifestError, match="must be a regular file"):
        read(tmp_path / "folder")


def test_a_file_of_ten_megabytes(tmp_path: Path) -> None:
    (tmp_path / "volery.yaml").write_bytes(b"# x\n" * (10 * 2**18))
    with pytest.raises(ManifestError, match=r"must be at most 1 MiB, got 10\.0 MiB"):
        read(tmp_path / "volery.yaml")


# --- includes -------------------------------------------------------------------------------------


def test_included_services_and_their_sources(application: Read) -> None:
    read = application(
        "app: shop\ninclude: [catalog/volery.yaml, ./x/../pay/service.yaml]\n"
        "services:\n  a: {source: ./web/, run: sh, needs: [catalog]}\n",
        {
            "catalog/volery.yaml": "services: {catalog: {run: ./go.sh, build: sh}}\n",
            "pay/service.yaml": "services: {pay: {source: ../web, run: sh}}\n",
            "web/x": "",
            "x/y": "",
        },
    )
    sources = {name: service.source for name, service in read.services.items()}
    assert sources == {"a": "web", "catalog": "catalog", "pay": "web"}


PARTS = {
    "store/volery.yaml": "services: {store: {run: sh}}\n",
    "store/src/x": "",
    "store/src/volery.yaml": "services: {inner: {run: sh}}\n",
}


@pytest.mark.parametrize("part", ["services: {store: {run: sh}}\n", "services: [\n"])
def test_the_manifest_of_an_included_file(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str
) -> None:
    manifest = "app: shop\ninclude: [5, x.yaml, ./store/volery.yaml]\n"
    write(manifest, {"store/volery.yaml": part, "store/src/x": ""})
    monkeypatch.chdir("store")
    assert find(Path()) == Path("../volery.yaml")
    assert find(tmp_path / "store" / "src") == tmp_path / "volery.yaml"


def test_what_nobody_includes_is_taken_as_it_is(write: Write, tmp_path: Path) -> None:
    write("app: shop\nservices: {a: {run: sh}}\n", PARTS)
    assert find(tmp_path / "store") == tmp_path / "store" / "volery.yaml"


def test_one_with_a_name_of_its_own_is_a_manifest(write: Write, tmp_path: Path) -> None:
    write("app: shop\ninclude: [store/volery.yaml]\n", {"store/volery.yaml": HEAD})
    assert find(tmp_path / "store") == tmp_path / "store" / "volery.yaml"


def test_the_nearest_that_includes_it_or_what_includes_it(write: Write, tmp_path: Path) -> None:
    write("app: shop\ninclude: [store/src/volery.yaml]\n", PARTS)
    assert find(tmp_path / "store" / "src") == tmp_path / "volery.yaml"


def test_a_part_that_nobody_includes_says_what_would(write: Write, tmp_path: Path) -> None:
    write("app: shop\nservices: {a: {run: sh}}\n", PARTS)
    with pytest.raises(ManifestError, match="key 'app' is missing") as caught:
        read(Path("store/volery.yaml"))
    root = tmp_path / "volery.yaml"
    said = f"if it belongs to {root}, write there: include: [store/volery.yaml]"
    assert caught.value.hint == said
    root.unlink()
    with pytest.raises(ManifestError) as caught:
        read(Path("store/volery.yaml"))
    assert caught.value.hint == "name the application: app: NAME"


def test_only_includes(application: Read) -> None:
    files = {"a/v.yaml": "services: {a: {run: sh, source: ..}}\n"}
    assert application("app: shop\ninclude: [a/v.yaml]\n", files).services["a"].source == "."


def test_a_source_may_be_outside(application: Read, tmp_path: Path) -> None:
    outside = os.path.relpath("/", tmp_path)
    read = application(f"app: shop\nservices: {{a: {{run: sh, source: {outside}}}}}\n")
    assert read.services["a"].source == outside


def test_mistakes_of_all_files_in_order(mistakes: Mistakes) -> None:
    lines = mistakes(
        "app: shop\ninclude: [b/v.yaml, c/v.yaml, b/../b/v.yaml, ../x, /etc/passwd, gone, "
        "volery.yaml, 5]\nservices:\n  a: {run: sh, needs: [x]}\n",
        {
            "b/v.yaml": "services:\n  b: {run: ./no, scale: 0}\n  a: {run: sh}\napp: x\n",
            "c/v.yaml": "services: [\n",
        },
    )
    assert lines == [
        "2:31: include[2]: is included twice, first as 'b/v.yaml'",
        "2:46: include[3]: must stay inside the folder of volery.yaml, got '../x'",
        "2:52: include[4]: must be a path relative to volery.yaml, got '/etc/passwd'",
        "2:65: include[5]: no such file: 'gone'",
        "2:71: include[6]: volery.yaml includes itself",
        "2:84: include[7]: must be text, got 5; put it in quotes",
        "b/v.yaml:2:12: services.b.run: no such file: './no' in source, and no `build` makes it",
        "b/v.yaml:2:25: services.b.scale: must be at least 1, got 0",
        "b/v.yaml:3:3: services.a: duplicate service; the first is at volery.yaml:4",
        "b/v.yaml:4:1: app: unknown key 'app'; an included file holds `services` only",
        "c/v.yaml:1:12: a value is expected here",
    ]


@pytest.mark.parametrize(
    ("include", "part", "line"),
    [
        ("[b/v.yaml]", "services: {b: {run: ]}}\n", "b/v.yaml:1:21: a value is expected here"),
        ("[b/v.yaml]", "", "b/v.yaml:1:1: is empty; write services here, or remove it"),
        ("[b/v.yaml]", "services:\n", "b/v.yaml:1:1: services: must be a mapping of services"),
        ("[b/w.yaml]", "services: {}\n", "2:11: include[0]: no such file: 'b/w.yaml'"),
        ("b/v.yaml", "services: {}\n", "2:10: include: must be a list, got 'b/v.yaml'"),
        ("[~]", "", "2:11: include[0]: must be text, got nothing"),
    ],
)
@pytest.mark.parametrize(
    "services",
    [
        "services: {a: {run: sh, needs: [b]}}\n"
        "gateway: {routes: [{path: /, service: b}]}\n"
        "environments: {dev: {overrides: {b: {scale: 2}}}}\n",
        "gateway: {routes: [{path: /, service: b}]}\n",
    ],
)
def test_a_service_may_be_in_a_file_that_cannot_be_read(
    mistakes: Mistakes, services: str, include: str, part: str, line: str
) -> None:
    (found,) = mistakes(f"app: shop\ninclude: {include}\n{services}", {"b/v.yaml": part})
    assert found.startswith(line)


def test_a_link_out_of_the_tree(mistakes: Mistakes, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "loop").symlink_to("loop")
    lines = mistakes("app: shop\ninclude: [out/hostname, loop]\nservices: {a: {run: sh}}\n")
    assert lines[0] == (
        "2:11: include[0]: must stay inside the folder of volery.yaml, got 'out/hostname'"
    )
    assert lines[1].startswith("2:25: include[1]: cannot be read: 'loop': ")


def test_an_included_file_includes_nothing(mistakes: Mistakes) -> None:
    files = {"b/v.yaml": "include: [../volery.yaml]\nservices: {b: {run: sh, source: ..}}\n"}
    assert mistakes("app: shop\ninclude: [b/v.yaml]\n", files) == [
        "b/v.yaml:1:1: include: unknown key 'include'; an included file holds `services` only"
    ]


# --- the contract ---------------------------------------------------------------------------------

CONTRACT = """\
app: birdhouse

gateway:
  port: 8080                        # where users come in
  routes:
    - {path: /, service: storefront}            # longest prefix wins; `host:` optional
    - {path: /api/catalog, service: catalog, strip: /api/catalog}

services:
  storefront:
    team: web
    source: ./storefront
    build: [python -m compileall -q .]
    test: python -m pytest -q
    run: python app.py
    protocol: http
    env: {LOG_LEVEL: info}
    secrets: [PAYMENT_KEY]
    needs:
      catalog: {}
      payments:
        timeout: 800ms
        retry: {attempts: 2, per_try: 300ms, backoff: 25ms..250ms, on: [connect, reset, 5xx], budget: 20%}
        when_unavailable: fail_fast
        importance: degradable
    health:
      ready: /healthz
      live: /healthz
      every: 1s
      timeout: 1s
      failures: 3
      startup: 30s
    scale: 2
    resources: {cpu: 0.5, memory: 256Mi}
    steady_state:
      errors: < 1%
      latency: {p99: < 300ms}
    deploy:
      strategy: canary
      steps: [1%, 5%, 25%, 50%]
      at_most: 10m
      approve: false
    stop: {drain: 15s, grace: 10s}
  orders-db:
    run: ./start.sh
    protocol: tcp
    state:
      volume: data
      role: ./role.sh
      switchover: ./promote.sh
    scale: 3
  catalog: {run: python app.py, source: catalog}
  payments: {run: python app.py, source: payments}

environments:
  dev:     {engine: local}
  staging: {engine: docker}
  production:
    engine: kubernetes
    context: prod-cluster
    overrides: {storefront: {scale: 6}}
"""  # noqa: E501


def test_the_example_of_the_contract(application: Read, tmp_path: Path) -> None:
    for name in ("storefront", "catalog", "payments"):
        (tmp_path / name).mkdir()
    for name in ("start.sh", "role.sh", "promote.sh"):
        (tmp_path / name).touch(mode=0o755)
    read = application(CONTRACT)
    storefront = read.services["storefront"]
    assert storefront.build == (("python", "-m", "compileall", "-q", "."),)
    assert storefront.deploy.steps == (0.01, 0.05, 0.25, 0.5)
    assert storefront.resources.memory == 256 * 2**20
    assert storefront.steady_state is not None
    assert storefront.steady_state.latency["p99"].value == pytest.approx(0.3)
    assert read.in_environment("production").services["storefront"].scale.min == 6
    assert read.default_environment == "dev"


PREFIX = "must be the beginning of paths such as /api, without a pattern, '.' or '..', got "
HOST = "must be a host name such as shop.example.com, or *.example.com for all below it, got "


@pytest.mark.parametrize(
    ("route", "line"),
    [
        ("path: /api/*", f"path: {PREFIX}'/api/*'"),
        ("path: '/a[0-9]+'", f"path: {PREFIX}'/a[0-9]+'"),
        ("path: '/users/{id}'", f"path: {PREFIX}'/users/{{id}}'"),
        ("path: /a/../b", f"path: {PREFIX}'/a/../b'"),
        ("path: /a/.", f"path: {PREFIX}'/a/.'"),
        ("path: /a, strip: /*", f"strip: {PREFIX}'/*'"),
        ("host: api.*.example.com", f"host: {HOST}'api.*.example.com'"),
        ("host: '*shop*'", f"host: {HOST}'*shop*'"),
        ("host: shop.*", f"host: {HOST}'shop.*'"),
        ("host: a..b", f"host: {HOST}'a..b'"),
    ],
)
def test_a_route_that_no_request_can_take(mistakes: Mistakes, route: str, line: str) -> None:
    (found,) = mistakes(
        f"app: x\ngateway: {{routes: [{{service: a, {route}}}]}}\nservices: {{a: {{run: sh}}}}\n"
    )
    assert found.partition("routes[0].")[2] == line


@pytest.mark.parametrize("route", [{"path": "/api/*"}, {"host": "shop.*"}])
def test_what_was_taken_before_is_still_read(route: dict[str, str]) -> None:
    assert Route.model_validate({"service": "a", **route}).service == "a"


@pytest.mark.parametrize(
    "route", ["path: /käse", "path: /.well-known/x", "path: /...", "host: '*'"]
)
def test_a_route_that_requests_can_take(application: Read, route: str) -> None:
    text = f"app: x\ngateway: {{routes: [{{service: a, {route}}}]}}\nservices: {{a: {{run: sh}}}}\n"
    assert application(text).gateway.routes


def test_a_malformed_path_collides_with_nothing(mistakes: Mistakes) -> None:
    found = mistakes(
        """
        app: x
        gateway:
          routes:
            - {path: /, service: a}
            - {path: api, service: a, strip: /api}
        services: {a: {run: python3 -m http.server}}
        """
    )
    assert len(found) == 1 and "a path such as /api" in found[0]


def test_a_command_that_is_a_truth_value_to_yaml(mistakes: Mistakes) -> None:
    said = 'must be a command, got true; write it in quotes: "true"'
    assert mistakes("app: x\nservices:\n  a:\n    run: true\n") == [f"4:10: services.a.run: {said}"]
