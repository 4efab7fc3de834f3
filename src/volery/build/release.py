"""The name of a release: what runs, by content.

Equal artifact, configuration and secret versions give the same name, anything else another one.
What decides how a release is brought out or how many of it run (scale, deploy, team, steady
state, time limits, where the source was) is not part of it. The tests are: a release is what
passed them, so other tests make it another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256

from volery.model.application import RUN_FIELDS, Service

DIGITS = 8


def release_id(
    service_name: str, artifact_digest: str, spec: Service, secret_versions: Mapping[str, int]
) -> str:
    """`catalog@3f2a91c0`. A secret without a version is one that is not set yet.

    Values equal to their defaults are left out, so that a field which a later version of Volery
    adds renames nothing.
    """
    content = {
        "service": service_name,
        "artifact": artifact_digest,
        "spec": spec.model_dump(mode="json", include=set(RUN_FIELDS), exclude_defaults=True),
        "secrets": {name: secret_versions.get(name, 0) for name in spec.secrets},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{service_name}@{sha256(text.encode()).hexdigest()[:DIGITS]}"
