"""The OpenAPI 3.1 document of the API, made from its table of endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from volery import __version__

if TYPE_CHECKING:
    from volery.api.app import Endpoint

Json = dict[str, Any]
DONE_AT_ONCE = ("/v1/plan", "/v1/guard/stop", "/v1/guard/release")
"""What is posted and is done when it is answered."""
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {key: {"type": "string"} for key in ("code", "message", "hint", "where")},
            "required": ["code", "message", "hint", "where"],
        }
    },
    "required": ["error"],
}


def document(endpoints: Iterable[Endpoint]) -> Json:
    """The document as JSON."""
    paths: dict[str, Json] = {}
    schemas: Json = {"Error": _ERROR}
    for item in endpoints:
        paths.setdefault(item.path, {})[item.method.lower()] = _operation(item, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Volery", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(item: Endpoint, schemas: Json) -> Json:
    media = "text/event-stream" if item.stream else "application/json"
    found: Json = {
        "summary": item.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", item.path)
        ],
        "responses": {
            "202" if item.method == "POST" and item.path not in DONE_AT_ONCE else "200": {
                "description": "done",
                "content": {media: {"schema": {"type": "object"}}},
            },
            "default": {
                "description": "refused; see the error",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if item.body is not None:
        schema = item.body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[item.body.__name__] = schema
        reference = {"$ref": f"#/components/schemas/{item.body.__name__}"}
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    return found
