"""The catalog: which birds we have a house for."""

import json
from pathlib import Path

from service import Handler, serve

BIRDS = json.loads(Path(__file__).with_name("birds.json").read_text())


def find(path):
    """Status and answer for a path."""
    if path == "/healthz":
        return 200, {"state": "ready"}
    if path in ("/", "/birds"):
        return 200, BIRDS
    for bird in BIRDS:
        if path == f"/birds/{bird['name']}":
            return 200, bird
    return 404, {"error": f"no house for {path}"}


class Catalog(Handler):
    """GET only."""

    def do_GET(self):
        self.reply(*find(self.path.partition("?")[0]))


if __name__ == "__main__":
    serve(Catalog)
