"""What the model says about data -> mistakes in our words, at the node they are about.

The model's own wording and its internals never reach a person. An unknown key is shown with the
nearest known one, also where people bring the word of another tool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from itertools import islice
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from volery.manifest.mistake import Mistake, Path, mistake, quoted
from volery.manifest.tree import descend, key_mark, shown
from volery.manifest.yaml12 import Node, Scalar
from volery.model.application import Application

OTHER_WORDS = {
    "cmd": "run",
    "command": "run",
    "depends_on": "needs",
    "dependencies": "needs",
    "directory": "source",
    "entrypoint": "run",
    "environment": "env",
    "environment_variables": "env",
    "healthcheck": "health",
    "host": "gateway",
    "instances": "scale",
    "interval": "every",
    "name": "app",
    "replicas": "scale",
    "retries": "retry",
    "start": "run",
    "start_period": "startup",
    "tests": "test",
    "working_dir": "source",
}
_PORT = "it listens on $PORT, and gateway.routes bring users to it"
WORDS_OF_CONTAINERS = {
    "env_file": "write its variables under env or secrets",
    "expose": _PORT,
    "image": "no image is run here: `run` is a command that starts it",
    "port": _PORT,
    "ports": _PORT,
    "restart": "what ends is always started again",
    "volumes": "a folder that survives is state: {volume: NAME}",
}
"""What people write in a service where nothing has the same meaning, and what to do instead."""
_KEYS_LISTED_MAX = 9
_COMPARED_MAX = 500

Phrase = Callable[[dict[str, Any]], str]
_PHRASES: dict[str, Phrase] = {
    "greater_than_equal": lambda ctx: f"must be at least {_number(ctx['ge'])}",
    "greater_than": lambda ctx: f"must be more than {_number(ctx['gt'])}",
    "less_than_equal": lambda ctx: f"must be at most {_number(ctx['le'])}",
    "less_than": lambda ctx: f"must be less than {_number(ctx['lt'])}",
    "literal_error": lambda ctx: f"must be {ctx['expected'].replace('True', 'true')}",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "must be text",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "tuple_type": lambda _: "must be a list",
    "list_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a mapping",
    "model_type": lambda _: "must be a mapping",
    "model_attributes_type": lambda _: "must be a mapping",
    "too_short": lambda _: "must not be empty",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda ctx: f"must have at most {ctx['max_length']} characters",
    "string_pattern_mismatch": lambda ctx: f"must match {ctx['pattern']}",
    "missing": lambda _: "is missing",
    "extra_forbidden": lambda _: "is not known here",
    "json_invalid": lambda ctx: f"the body is no JSON: {ctx['error']}",
}


def explain(errors: Iterable[ErrorDetails], root: Node) -> list[Mistake]:
    """One mistake for each thing that is wrong."""
    return list(dict.fromkeys(_explained(error, root) for error in errors))


def said(error: ErrorDetails) -> str:
    """What is wrong, in our words, for data that has no place in a file."""
    return _message(error, error.get("ctx", {}))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'scale'?`, or nothing where nothing is near."""
    written, compared = word[:80], list(islice(known, _COMPARED_MAX))
    exchanged = [each for each in compared if sorted(each) == sorted(written)]  # `evn`: 0.67 near
    near = exchanged or get_close_matches(written, compared, n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def _explained(error: ErrorDetails, root: Node) -> Mistake:
    kind, loc = error["type"], tuple(error["loc"])
    if kind == "extra_forbidden":
        return _unknown_key(loc, root)
    if kind == "missing":
        at, _, mark = descend(root, loc[:-1])
        return mistake(mark, at, f"key {str(loc[-1])!r} is missing")
    context = error.get("ctx", {})
    if loc and loc[-1] == "[key]":
        message = _with_got(_message(error, context), quoted(str(loc[-2])))
        return mistake(key_mark(root, loc[:-1]), loc[:-1], message)
    at, node, mark = descend(root, loc)
    got = shown(node) if at == loc or isinstance(node, Scalar) else ""
    return mistake(mark, at, _with_got(_message(error, context), got) + _advice(error, node))


def _message(error: ErrorDetails, context: dict[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(context["error"])
    phrase = _PHRASES.get(error["type"])
    return phrase(context) if phrase else error["msg"].replace("Input should ", "must ")


def _with_got(message: str, got: str) -> str:
    wanted = got and message.startswith("must be ") and ", got " not in message
    return f"{message}, got {got}" if wanted else message


def _advice(error: ErrorDetails, node: Node) -> str:
    kind = error["type"]
    if not isinstance(node, Scalar):
        return ""
    if kind == "literal_error":
        return nearest(node.text, re.findall("'([^']+)'", error["ctx"]["expected"]))
    if kind == "string_type" and node.value is not None:
        return "; put it in quotes" if error["loc"] != ("app",) else "; a name begins with a letter"
    if kind == "string_type" and "env" in error["loc"]:
        return "; write '' for empty text"
    if kind.startswith(("int_", "float_")) and not node.plain:
        return "; remove the quotes"
    return ""


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unknown_key(loc: Path, root: Node) -> Mistake:
    key = str(loc[-1])
    known = list(_model_at(loc[:-1]).model_fields)
    if len(loc) == 3 and loc[0] == "services" and key in WORDS_OF_CONTAINERS:
        said = f"unknown key {quoted(key)}: {WORDS_OF_CONTAINERS[key]}"
        return mistake(key_mark(root, loc), loc, said)
    meant = OTHER_WORDS.get(key, "")
    hint = f"; did you mean {meant!r}?" if meant in known else nearest(key, known)
    if not hint and len(known) <= _KEYS_LISTED_MAX:
        hint = f"; known here: {', '.join(known)}"
    return mistake(key_mark(root, loc), loc, f"unknown key {quoted(key)}{hint}")


def _model_at(path: Path) -> type[BaseModel]:
    """The model that describes the mapping at a path."""
    model: type[BaseModel] = Application
    steps = iter(path)
    for step in steps:
        described = model.model_fields.get(str(step))
        if described is None:
            continue
        annotation = described.annotation
        if _is_container(annotation):
            next(steps, None)
        model = _model_in(annotation) or model
    return model


def _parts(annotation: Any) -> tuple[Any, ...]:
    """What an annotation is made of, where it only wraps or offers alternatives."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return get_args(annotation)[:1]
    return get_args(annotation) if origin in (Union, UnionType) else ()


def _is_container(annotation: Any) -> bool:
    parts = _parts(annotation)
    return any(map(_is_container, parts)) if parts else get_origin(annotation) in (dict, tuple)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Literal:
        return None
    found = (_model_in(part) for part in get_args(annotation))
    return next((model for model in found if model), None)
