"""A secret reaches its service and nobody else: no file, argument, event, JSON, log or error."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from acceptance.project import Project, until
from acceptance.services import environment_of

VALUE = "swordfish-7f3a-" + "x9" * 9
SECOND = "barracuda-51c0-" + "q4" * 9

TALKER = """
import os, sys
print("my key is", os.environ["PAYMENT_KEY"], flush=True)
print("broken key " + os.environ["PAYMENT_KEY"] + "!", file=sys.stderr, flush=True)
if "{mode}" == "crash":
    sys.exit("cannot pay with " + os.environ["PAYMENT_KEY"])
"""


def files_with(home: Path, value: str) -> list[Path]:
    """Every file below a folder that holds these bytes."""
    found = []
    for folder, _, names in os.walk(home):
        for name in names:
            path = Path(folder, name)
            with suppress(FileNotFoundError):  # instances and their logs come and go
                if path.is_file() and value.encode() in path.read_bytes():
                    found.append(path)
    return found


def arguments_with(value: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(value in word for word in process.info["cmdline"] or ())
    ]


def everything_said(project: Project) -> str:
    """What all looking commands print, as text and as JSON."""
    commands = [("status",), ("status", "payments"), ("events",), ("logs", "payments")]
    commands += [("rollout", "payments"), ("releases", "payments"), ("plan",), ("secret", "list")]
    plain = [project.ok(*command).text for command in commands[2:5]]
    return "".join(plain + [project.ok(*c, "--output", "json").text for c in commands])


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("payments", secrets=["PAYMENT_KEY"])
    return project


def talk(project: Project, mode: str = "good") -> None:
    """The service prints its secret on both streams."""
    project.service("payments", version="2")
    main = project.folder / "payments" / "server.py"
    main.write_text(TALKER.format(mode=mode) + main.read_text())


def pid(project: Project) -> int:
    return int(project.status()["services"]["payments"]["instances"][0]["pid"])


def test_a_secret_that_is_not_set_is_told_with_the_command_that_sets_it(shop: Project) -> None:
    result = shop.volery("up")
    assert result.code in (1, 2)
    assert "PAYMENT_KEY" in result.err and "volery secret set PAYMENT_KEY" in result.err
    shop.ok("down")
    assert shop.volery("status").code == 7


def test_check_names_what_is_not_set_without_a_control_plane(shop: Project) -> None:
    said = "services.payments.secrets: PAYMENT_KEY is not set here: volery secret set PAYMENT_KEY"
    assert said in shop.ok("check").out
    assert not shop.home.exists(), "looking makes nothing"
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    assert "PAYMENT_KEY" not in shop.ok("check").out


def test_the_service_sees_it_and_nothing_else_does(shop: Project) -> None:
    said = shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE + "\n").text
    assert VALUE not in said and "PAYMENT_KEY" in said
    shop.ok("up")
    assert environment_of(pid(shop))["PAYMENT_KEY"] == VALUE
    assert json.loads(shop.get("/payments/env")[1])["PAYMENT_KEY"] == VALUE

    assert files_with(shop.home, VALUE) == []
    assert arguments_with(VALUE) == []
    assert VALUE not in everything_said(shop)
    processes = shop.status()["processes"]
    for ours in (processes["control_plane"], *processes["envoy"], *processes["shims"]):
        assert VALUE not in str(environment_of(ours)), ours
    listed = shop.ok("secret", "list", "--output", "json").json["secrets"]
    assert [item["name"] for item in listed] == ["PAYMENT_KEY"]
    environment = shop.home / "trial" / "dev"
    for path in (environment, environment / "secrets", *(environment / "secrets").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_another_value_arrives_with_the_next_deploy(shop: Project) -> None:
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    shop.ok("up")
    before = pid(shop)
    shop.ok("secret", "set", "PAYMENT_KEY", text=SECOND)
    assert pid(shop) == before, "setting a secret disturbs nobody"
    deployed = shop.ok("deploy", "payments", "--output", "json").json
    assert deployed["from"] != deployed["to"], "configuration is part of a release"
    assert environment_of(pid(shop))["PAYMENT_KEY"] == SECOND
    assert files_with(shop.home, SECOND) == [] and files_with(shop.home, VALUE) == []


def test_what_the_service_prints_is_masked(shop: Project) -> None:
    talk(shop)
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    shop.ok("up")
    logs = until(lambda: _both_lines(shop), "both lines are there")
    assert "my key is ***" in logs and "broken key ***!" in logs
    assert VALUE not in everything_said(shop)
    for path in files_with(shop.home, VALUE):
        assert path.name.startswith("log"), "only what the service itself wrote"
        assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
    follow = shop.start("logs", "payments", "-f")
    assert follow.stdout is not None
    try:
        line = follow.stdout.readline()
        assert "***" in line and VALUE not in line
    finally:
        follow.kill()
        follow.communicate()


def _both_lines(project: Project) -> str:
    text = project.ok("logs", "payments").out
    return text if "my key" in text and "broken key" in text else ""


@pytest.mark.parametrize("place", ["start", "build", "test"])
def test_what_a_refused_release_says_is_masked(shop: Project, place: str) -> None:
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    shop.ok("up")
    if place == "start":
        talk(shop, mode="crash")
    else:
        leak = f"import sys; print('key {VALUE}'); sys.exit('no {VALUE}!')"
        (shop.folder / "payments" / "leak.py").write_text(leak)
        shop.manifest["services"]["payments"][place] = "python3 leak.py"
        shop.write()
    for output in ("text", "json"):
        result = shop.volery("deploy", "payments", "--force", "--output", output)
        assert result.code == 3, result.text
        assert "***" in result.text and VALUE not in result.text
    assert VALUE not in everything_said(shop)
    written = [path for path in files_with(shop.home, VALUE) if path.name != "leak.py"]
    assert not [path for path in written if "ledger" in path.name]
    for path in written:
        assert path.suffix == ".log" or path.name.startswith("log"), "only its own output"
    assert (shop.home / "trial" / "dev").stat().st_mode & 0o077 == 0


def test_what_a_service_says_of_the_secret_of_another_one_is_masked(shop: Project) -> None:
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    shop.service("worker", needs=["payments"])
    main = shop.folder / "worker" / "server.py"
    main.write_text(f"import sys; sys.exit('payments wants {VALUE}')")
    for output in ("text", "json"):
        result = shop.volery("up", "--output", output)
        assert result.code == 1, result.text
        assert "payments wants ***" in result.text and VALUE not in result.text
    assert VALUE not in everything_said(shop)
    assert VALUE not in "".join(shop.ok(*told, "worker").text for told in (["logs"], ["rollout"]))


def test_what_it_says_of_one_that_was_set_since_it_started_is_masked(shop: Project) -> None:
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    told = shop.folder / "told"
    told.touch()
    ready = {"command": ["sh", "-c", f"cat {told}; ! grep -q . {told}"]}
    shop.service("worker", health={"ready": ready, "every": "200ms"})
    shop.ok("up")
    shop.ok("secret", "set", "PAYMENT_KEY", text=SECOND)
    told.write_text(f"payments wants {SECOND}")
    until(lambda: "payments wants ***" in shop.ok("status").out, "it says so")
    assert SECOND not in everything_said(shop)


def test_a_key_that_others_may_read_keeps_only_who_has_secrets(shop: Project) -> None:
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    shop.service("catalog")
    shop.ok("up")
    key = shop.home / "trial" / "dev" / "secrets" / "key"
    key.chmod(0o644)
    for name in ("catalog", "payments"):
        shop.service(name, version="2")
    shop.ok("deploy", "catalog")
    assert (shop.version("catalog"), shop.version("payments")) == ("2", "1")
    for refused in (shop.volery("deploy", "payments"), shop.volery("logs", "catalog")):
        assert refused.code == 6 and "others may read the key" in refused.err, refused.text
        assert f"chmod 600 {key}" in refused.err
    key.chmod(0o600)
    shop.ok("deploy", "payments")
    shop.ok("logs", "catalog")
    assert shop.version("payments") == "2"


def test_removing_it(shop: Project) -> None:
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    shop.ok("up")
    refused = shop.volery("secret", "rm", "PAYMENT_KEY")
    assert refused.code == 6 and "payments runs with it" in refused.err
    shop.ok("--yes", "secret", "rm", "PAYMENT_KEY")
    assert shop.ok("secret", "list", "--output", "json").json == {"secrets": []}
    assert shop.version("payments") == "1", "what runs goes on"
    shop.service("payments", version="2")
    result = shop.volery("deploy", "payments")
    assert result.code in (1, 2) and "PAYMENT_KEY" in result.err
    assert shop.volery("secret", "rm", "PAYMENT_KEY").code in (1, 2)


@pytest.mark.parametrize("name", ["with space", "1ST", "a-b", "", "PÄY"])
def test_a_name_that_can_be_no_variable(shop: Project, name: str) -> None:
    result = shop.volery("secret", "set", name, text=VALUE)
    assert result.code == 2, result.text
    assert VALUE not in result.text and len(result.err.splitlines()) <= 2


def test_a_value_of_any_kind(shop: Project) -> None:
    odd = "line one\nline two: \u00e4 \"'$HOME\\ \u2028 end"
    shop.ok("secret", "set", "PAYMENT_KEY", text=odd)
    shop.ok("up")
    assert environment_of(pid(shop))["PAYMENT_KEY"] == odd
    assert shop.volery("secret", "set", "EMPTY", text="").code in (0, 2)
    nul = shop.volery("secret", "set", "NUL", text="a\0b")
    assert nul.code == 2, "no environment can hold it"


@pytest.mark.parametrize("change", ["rotated", "removed"])
def test_a_former_value_stays_masked(shop: Project, change: str) -> None:
    talk(shop)
    shop.ok("secret", "set", "PAYMENT_KEY", text=VALUE)
    shop.ok("up")
    until(lambda: _both_lines(shop), "both lines are there")
    if change == "rotated":
        shop.ok("secret", "set", "PAYMENT_KEY", text=SECOND)
    else:
        shop.ok("--yes", "secret", "rm", "PAYMENT_KEY")
    assert VALUE not in shop.ok("logs", "payments").out
