"""The JSON Schema of a manifest, for editors: what `volery schema` prints.

Generated from the models, so it cannot drift from them, and kept to draft-07, which is what
editors' YAML support reads. It knows the short forms and the written form of every unit; what
refers to something else (an unknown service) only the reader sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from volery.model.application import Application
from volery.model.fields import DURATION_PATTERN, PERCENT_PATTERN, SIZE_PATTERN
from volery.model.units import format_duration

Schema = dict[str, Any]
_WRITTEN: dict[str, Callable[[Any], str]] = {
    DURATION_PATTERN: format_duration,
    PERCENT_PATTERN: lambda fraction: f"{fraction * 100:g}%",
    SIZE_PATTERN: str,
}


def json_schema() -> Schema:
    """A self-contained draft-07 schema of `volery.yaml`."""
    schema: Schema = _draft07(Application.model_json_schema())
    schema["properties"]["services"].pop("minProperties")
    return schema | {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "volery.yaml",
        "description": "The manifest of one application.",
        "required": ["app"],
        "anyOf": [{"required": ["services"]}, {"required": ["include"]}],
    }


def _draft07(node: Any) -> Any:
    if isinstance(node, list):
        return [_draft07(item) for item in node]
    if not isinstance(node, dict):
        return node.replace("#/$defs/", "#/definitions/") if isinstance(node, str) else node
    schema = {
        "definitions" if key == "$defs" else key: _named(value)
        if key in ("properties", "$defs", "patternProperties")
        else _draft07(value)
        for key, value in node.items()
        if key not in ("title", "default")
    }
    if "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)
    if "default" in node:
        schema |= _default(node, node["default"])
    return _described_ref(schema)


def _named(schemas: Schema) -> Schema:
    """Names of properties are not keywords: `title` or `default` may be one."""
    return {name: _draft07(schema) for name, schema in schemas.items()}


def _described_ref(schema: Schema) -> Schema:
    """In draft-07 everything beside a `$ref` is ignored, so it needs a wrapping."""
    if "$ref" not in schema or len(schema) == 1:
        return schema
    ref = schema.pop("$ref")
    return {"allOf": [{"$ref": ref}], **schema}


def _default(node: Schema, value: Any) -> Schema:
    """The default as a person would write it; nothing for the parts that have their own."""
    if value is None or value in ({}, []) or isinstance(value, dict):
        return {}
    if isinstance(value, list):
        return {"default": [_as_written(node.get("items", {}), item) for item in value]}
    return {"default": _as_written(node, value)}


def _as_written(node: Schema, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    write = _WRITTEN.get(node.get("pattern", ""))
    return write(value) if write else value
