"""Clean copies of real folders: what git would take, nothing from outside, nothing half."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.tiny_disk import TinyDisk, tiny_disk

from volery.build.source import Source, digest, snapshot
from volery.build.tree import Limits, Stopped
from volery.model.errors import Code, VoleryError

Tree = dict[str, "str | Tree"]


def make(folder: Path, tree: dict[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in tree.items():
        if isinstance(content, dict):
            make(folder / name, content)
        else:
            (folder / name).write_text(str(content))
    return folder


def files(folder: Path) -> set[bytes]:
    """Files and links, by path."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_symlink() or path.is_file():
            found.add(os.fsencode(path.relative_to(folder)))
    return found


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make(tmp_path / "app", {"app.py": "print()", "lib": {"a.py": "a", "b.py": "b"}})


# --- what belongs to it ---------------------------------------------------------------------------

NAMES = ["a", "b", "foo", "bar.txt", "x.log", "build", ".env", "*star", "a b", "#h", "!n", "é"]
PATTERNS = (
    "* *.log foo /foo foo/ !foo !foo/ !*.log !*/ a/ a/b /a/b **/b a/** a/**/b !a/b foo/* a/* !/a/"
    " !foo/bar.txt ? [ab] [!a] !a/ build/ /build/* !/build/x.log #c \\#h \\!n *.txt **/ ** /* !/a"
    " b/** !b/** **/foo/** / // \\*star [ a[ ! *** a//b foo/**/ */b */* [a-c]* [[:alpha:]] [^a]*"
    " []a] [a-] [c-a] a[/]b a?b *\\ \\a [\\a] [[:foo:]] [[: *o* f**o **o a/**b !* é [é]"
)
LINES = st.sampled_from(
    [*PATTERNS.split(), "a b", "a\\ b", " a", "a ", "b  ", "a\\  ", "", "foo\r"]
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 0) -> dict[str, object]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    tree: dict[str, object] = {}
    for name in names:
        is_folder = depth < 3 and draw(st.booleans())
        tree[name] = draw(trees(depth + 1)) if is_folder else "x"
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        tree[".gitignore"] = "\n".join(draw(st.lists(LINES, min_size=1, max_size=5)))
    return tree


def what_git_takes(folder: Path, below: str = ".") -> set[bytes]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", "."],
        cwd=folder / below,
        env=environment,
        check=True,
        capture_output=True,
    )
    return {path for path in done.stdout.split(b"\0") if path}


def git_init(folder: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed, so what it takes cannot be compared")
    subprocess.run(["git", "init", "-q", str(folder)], check=True, capture_output=True)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(trees())
def test_takes_what_git_takes(tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = make(Path(folder) / "app", tree)
        git_init(root)
        snapshot(root, Path(folder) / "copy")
        assert files(Path(folder) / "copy") == what_git_takes(root)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(trees(depth=1), LINES.filter(lambda line: "foo" in line or ".log" in line))
def test_rules_of_the_repository_hold_in_a_service_folder(
    tree: dict[str, object], line: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = make(Path(folder) / "repo", {".gitignore": line, "web": tree})
        git_init(root)
        snapshot(root / "web", Path(folder) / "copy")
        assert files(Path(folder) / "copy") == what_git_takes(root, "web")


def test_rule_about_the_service_folder_itself_is_dropped_but_not_the_others(tmp_path: Path) -> None:
    root = make(tmp_path / "repo", {".gitignore": "out/\n*.log", "out": {"a": "", "b.log": ""}})
    (root / ".git").mkdir()
    snapshot(root / "out", tmp_path / "copy")
    assert files(tmp_path / "copy") == {b"a"}


def test_rules_above_count_only_in_a_repository(tmp_path: Path) -> None:
    root = make(tmp_path / "outer", {".gitignore": "*", "app": {"a": ""}})
    snapshot(root / "app", tmp_path / "copy")
    assert files(tmp_path / "copy") == {b"a"}


def test_voleryignore_has_the_last_word(tmp_path: Path, app: Path) -> None:
    (app / ".gitignore").write_text("*.js\n")
    (app / ".voleryignore").write_text("!bundle.js\nlib/\n")
    make(app, {"bundle.js": "", "other.js": ""})
    snapshot(app, tmp_path / "copy")
    assert files(tmp_path / "copy") == {b".gitignore", b".voleryignore", b"app.py", b"bundle.js"}


def test_some_folders_are_never_source(tmp_path: Path, app: Path) -> None:
    make(app, {".git": {"HEAD": ""}, "__pycache__": {"x": ""}, ".volery": {"x": ""}, "a.pyc": ""})
    make(app, {"env": {"pyvenv.cfg": "", "bin": {"python": ""}}})
    home = make(app / "state", {"ledger.db": ""})
    Source(app, without=(home, tmp_path / "absent")).copy(tmp_path / "copy")
    assert files(tmp_path / "copy") == {b"app.py", b"lib/a.py", b"lib/b.py"}


def test_a_manifest_beside_the_source_is_no_source(tmp_path: Path, app: Path) -> None:
    before = digest(app)
    make(app, {"volery.yaml": "app: birds\n", "lib": {"volery.yaml": "services: {}\n"}})
    snapshot(app, tmp_path / "copy")
    assert digest(app) == before
    assert files(tmp_path / "copy") == {b"app.py", b"lib/a.py", b"lib/b.py"}


def test_empty_folders_belong_to_it(tmp_path: Path, app: Path) -> None:
    before = digest(app)
    (app / "uploads").mkdir()
    snapshot(app, tmp_path / "copy")
    assert (tmp_path / "copy" / "uploads").is_dir()
    assert digest(app) != before


# --- copy and digest ------------------------------------------------------------------------------


def test_copy_is_faithful(tmp_path: Path, app: Path) -> None:
    (app / "run.sh").write_text("#!/bin/sh")
    (app / "run.sh").chmod(0o700)
    os.utime(app / "app.py", ns=(1, 1_234_567_890_123_456_789))
    (app / "lib" / "up").symlink_to("../app.py")
    (app / "nowhere").symlink_to("absent")
    (app / "big").write_bytes(os.urandom(3_000_000))
    told = snapshot(app, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert files(copy) == files(app)
    assert (copy / "big").read_bytes() == (app / "big").read_bytes()
    assert (copy / "lib" / "up").readlink() == Path("../app.py")
    assert (copy / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (copy / "app.py").stat().st_mode & 0o777 == 0o644
    assert (copy / "app.py").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert told == digest(app) == digest(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda app: (app / "app.py").write_text("other"),
        lambda app: (app / "app.py").chmod(0o755),
        lambda app: (app / "app.py").rename(app / "app2.py"),
        lambda app: (app / "lib" / "a.py").unlink(),
        lambda app: (app / "new").write_text(""),
        lambda app: (app / "link").symlink_to("app.py"),
        lambda app: (app / "empty").mkdir(),
    ],
    ids=["content", "rights", "name", "gone", "new", "link", "folder"],
)
def test_digest_sees_every_change(app: Path, change: Callable[[Path], object]) -> None:
    before = digest(app)
    change(app)
    assert digest(app) != before


def test_digest_ignores_times_owners_rights_and_order(tmp_path: Path, app: Path) -> None:
    before = digest(app)
    (app / "app.py").chmod(0o600)
    os.utime(app / "app.py", (1, 1))
    make(app, {"x.pyc": ""})
    assert digest(app) == before
    again = tmp_path / "again"
    make(again, {"lib": {"b.py": "b", "a.py": "a"}, "app.py": "print()"})
    assert digest(again) == before


def test_digest_knows_where_one_thing_ends(tmp_path: Path) -> None:
    """No two of these may be taken for each other."""
    given: list[dict[str, object]] = [
        {"a": "bc"},
        {"ab": "c"},
        {"a": {"b": "c"}},
        {"a": {}, "b": "c"},
        {"a": "", "b": "c"},
        {"a": "", "bc": ""},
    ]
    found = {digest(make(tmp_path / str(n), tree)) for n, tree in enumerate(given)}
    assert len(found) == len(given)


def test_file_names_need_not_be_text(tmp_path: Path, app: Path) -> None:
    strange = [b"caf\xe9", b"new\nline", b"\xff\xfe", b" ", b"-rf"]
    for name in strange:
        (app / os.fsdecode(name)).write_bytes(name)
    assert snapshot(app, tmp_path / "copy") == digest(app)
    assert files(tmp_path / "copy") >= set(strange)


# --- refusals -------------------------------------------------------------------------------------


def refusal(app: Path, into: Path) -> VoleryError:
    with pytest.raises(VoleryError) as caught:
        snapshot(app, into)
    assert not into.exists()
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../outside", "lib/../../outside", "..", "{app}/app.py"]
)
def test_links_that_lead_out_are_refused(tmp_path: Path, app: Path, target: str) -> None:
    (tmp_path / "outside").write_text("")
    (app / "evil").symlink_to(target.format(app=app))
    error = refusal(app, tmp_path / "copy")
    assert error.code is Code.INVALID
    assert "evil" in error.message
    (app / ".gitignore").write_text("evil")
    snapshot(app, tmp_path / "copy")


def test_link_through_a_folder_that_is_a_link_is_seen_through(tmp_path: Path, app: Path) -> None:
    (app / "lib" / "sub").mkdir()
    (app / "short").symlink_to("lib/sub")
    (app / "evil").symlink_to("short/../../..")
    assert "evil" in refusal(app, tmp_path / "copy").message


def test_too_many_files_are_refused_naming_where_they_are(tmp_path: Path, app: Path) -> None:
    make(app, {"node_modules": {str(n): "" for n in range(20)}})
    with pytest.raises(VoleryError, match=r"more than 10 files.*node_modules") as caught:
        Source(app, limits=Limits(files=10)).copy(tmp_path / "copy")
    assert ".gitignore" in caught.value.hint
    assert not (tmp_path / "copy").exists()


def test_too_many_bytes_are_refused_naming_where_they_are(tmp_path: Path, app: Path) -> None:
    with (app / "dump.sql").open("wb") as file:
        file.truncate(2**40)  # takes no space: the size is refused before anything is read
    with pytest.raises(VoleryError, match=r"more than 4096 MiB.*dump\.sql"):
        digest(app)


def test_folders_nested_too_deep_are_refused(app: Path) -> None:
    (app / "lib" / "d" / "d").mkdir(parents=True)
    Source(app, limits=Limits(depth=3)).digest()
    with pytest.raises(VoleryError, match=r"deeper than 2.*lib"):
        Source(app, limits=Limits(depth=2)).digest()


@pytest.mark.parametrize("what", ["absent", "app.py"])
def test_what_is_no_folder_is_refused(tmp_path: Path, app: Path, what: str) -> None:
    assert refusal(app / what, tmp_path / "copy").code is Code.INVALID


def test_sockets_and_pipes_are_skipped_and_told(tmp_path: Path, app: Path) -> None:
    os.mkfifo(app / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(app)
        try:
            listener.bind("run.sock")
        finally:
            os.chdir(here)
        copied = Source(app).copy(tmp_path / "copy")
    assert sorted(copied.skipped) == ["pipe: a pipe", "run.sock: a socket"]
    assert files(tmp_path / "copy") == {b"app.py", b"lib/a.py", b"lib/b.py"}


AS_NOBODY = """
import os, sys
from pathlib import Path
from volery.build.source import digest
from volery.model.errors import VoleryError
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    digest(Path(sys.argv[1]))
except VoleryError as error:
    print(error.message, error.hint, sep="|")
"""


@pytest.mark.parametrize("name", ["app.py", "lib"])
def test_what_cannot_be_read_is_told(name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming somebody else needs root")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        app = make(Path(folder) / "app", {"app.py": "", "lib": {"a": ""}})
        (app / name).chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(app)], check=True, capture_output=True, text=True
        )
    assert done.stdout.startswith(f"cannot read {name}: Permission denied|")


# --- changes meanwhile ----------------------------------------------------------------------------


class Meddling:
    """Does something to the source each time a file of it was opened, up to a number of times."""

    def __init__(self, times: int, act: Callable[[int], object]) -> None:
        self.left, self.act = times, act
        self.real = hashlib.sha256

    def __call__(self, *given: bytes) -> object:
        if not given and self.left:  # the hash of one file's content is about to be made
            self.left -= 1
            self.act(self.left)
        return self.real(*given)


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[int], object]], None]:
    def begin(times: int, act: Callable[[int], object]) -> None:
        monkeypatch.setattr(hashlib, "sha256", Meddling(times, act))

    return begin


Meddle = Callable[[int, Callable[[int], object]], None]


@pytest.mark.parametrize("name", ["app.py", "lib/a.py", "lib/b.py", "new.py"])
def test_change_while_copying_is_noticed_and_read_again(
    tmp_path: Path, app: Path, meddle: Meddle, name: str
) -> None:
    meddle(2, lambda left: (app / name).write_text(f"changed {left} {'x' * left}"))
    told = snapshot(app, tmp_path / "copy")
    assert told == digest(app) == digest(tmp_path / "copy")
    assert (tmp_path / "copy" / name).read_text() == "changed 0 "


def test_file_that_vanishes_while_copying_is_noticed(
    tmp_path: Path, app: Path, meddle: Meddle
) -> None:
    meddle(1, lambda left: (app / "lib" / "b.py").unlink())
    assert snapshot(app, tmp_path / "copy") == digest(app)
    assert files(tmp_path / "copy") == {b"app.py", b"lib/a.py"}


def test_file_that_becomes_a_link_out_while_copying_is_never_followed(
    tmp_path: Path, app: Path, meddle: Meddle
) -> None:
    def swap(left: int) -> None:
        (app / "lib" / "b.py").unlink()
        (app / "lib" / "b.py").symlink_to("/etc/passwd")

    meddle(1, swap)
    assert "lib/b.py" in refusal(app, tmp_path / "copy").message


def test_source_that_never_holds_still_is_refused(
    tmp_path: Path, app: Path, meddle: Meddle
) -> None:
    meddle(1000, lambda left: (app / "lib" / "b.py").write_text("x" * left))
    error = refusal(app, tmp_path / "copy")
    assert "keeps changing" in error.message
    assert "lib/b.py" in error.message


def test_stopping_leaves_nothing(tmp_path: Path, app: Path) -> None:
    asked = iter([False] * 8 + [True] * 1000)
    with pytest.raises(Stopped):
        Source(app, stopped=lambda: next(asked)).copy(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


# --- full disk ------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyDisk]:
    with tiny_disk(tmp_path / "tiny") as disk:
        yield disk


def test_full_disk_is_told_and_nothing_half_is_left(app: Path, tiny: TinyDisk) -> None:
    (app / "big").write_bytes(b"x" * 3 * 2**20)
    error = refusal(app, tiny.folder / "copy")
    assert "No space left" in error.message
    (app / "big").unlink()
    snapshot(app, tiny.folder / "copy")
