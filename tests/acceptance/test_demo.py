"""The guided tour ends by itself, with the right exit codes, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TOUR_SECONDS = 570
CODES = {
    "birdhouse is built, tested and started": 0,
    "a good catalog passes its canary": 0,
    "back to the first catalog, at once": 0,
    "a catalog whose tests fail is refused": 3,
    "a catalog that fails requests is taken back": 3,
    "a catalog that is slow is taken back": 3,
    "a catalog that crashes again and again is too": 3,
    "an instance of the catalog is killed": 0,
    "database down: fail fast": 0,
    "database down: keep trying": 0,
}


def test_the_tour(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "volery", "--output", "json", "demo"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TOUR_SECONDS,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert {act["title"]: act["code"] for act in report["acts"]} == CODES, done.stderr
    assert done.returncode == 0 and report["good"], done.stderr
    assert report["lost_by_volery"] == 0, report["traffic"]
    assert report["failed_by_bad_releases"] == report["traffic"]["lost"]
    harm = {act["title"]: act["harmed"] for act in report["acts"]}
    assert harm["a catalog that fails requests is taken back"] > 0
    assert harm["a good catalog passes its canary"] == 0
    for words in ("what happened", "why", "users harmed", "it took", "evidence"):
        assert words in done.stderr
    assert list(tmp_path.glob("volery-demo-*")) == [], "nothing is left behind"
