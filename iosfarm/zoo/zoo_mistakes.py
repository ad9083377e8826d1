"""pydantic's errors of a `zoo.yaml` as mistakes in our words, each with its line."""

from __future__ import annotations

import typing
from collections.abc import Sequence

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from iosfarm.zoo.registry import nearest
from iosfarm.zoo.yaml_tree import Mistake, Tree
from iosfarm.zoo.zoo_settings import ModelEntry, Settings, ZooFile

_WORDS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a valid integer": "an integer",
    "a valid dictionary": "a mapping",
    "a valid string": "text; put it in quotes",
    "an instance of Sequence": "a list",
    "a valid": "a",
}
"""pydantic's words and ours."""


def mistake_of(error: ErrorDetails, tree: Tree) -> Mistake:
    """One of pydantic's errors in our words."""
    location = error["loc"]
    kind, value, last = error["type"], error["input"], location[-1] if location else ""
    name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).removeprefix(".")
    if kind == "extra_forbidden":
        return Mistake(
            tree.line(location, key=True), f"unknown key {last!r}", nearest(str(last), _model_at(location).model_fields)
        )
    line = tree.line(location)
    if kind == "missing":
        return Mistake(line, f"{name} is missing", "expected a list of models, such as `- name: squeezenet`")
    if kind in ("model_type", "model_attributes_type"):
        hint = "expected a mapping, such as `name: squeezenet`" if location[0] == "models" else "expected a mapping"
        return Mistake(line, f"{name} is {_short(value)}", hint)
    if kind == "list_type":
        example = "cpu" if last == "devices" and not (isinstance(value, str) and value) else _short(value, 20)
        return Mistake(line, f"{name} is {_short(value)}", f"expected a list, such as [{example}]")
    if kind == "too_short":
        return Mistake(line, f"{name} is empty", "expected at least one item")
    if kind == "value_error":  # of zoo_settings.py
        return Mistake(line, f"{name} is {_short(value)}", error["msg"].removeprefix("Value error, "))
    expected = in_our_words(error["msg"].removeprefix("Input should be "))
    if kind == "literal_error":
        choices = [str(choice) for choice in typing.get_args(_literal(location))] or [expected]
        hint = nearest(str(value), choices) if len(choices) > 1 else f"expected {choices[0]}"
        return Mistake(line, f"{name} is {_short(value)}", hint)
    return Mistake(line, f"{name} is {_short(value)}", f"expected {expected}")


def in_our_words(text: str) -> str:
    """A message of pydantic's, or about a Python type, as somebody who writes YAML says it."""
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    return text


def _short(value: object, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _model_at(location: Sequence[str | int]) -> type[BaseModel]:
    if len(location) == 1:
        return ZooFile
    return Settings if location[0] == "defaults" else ModelEntry


def _literal(location: Sequence[str | int]) -> object:
    """The Literal type of the field at a location, from inside of its optional or list."""
    field = next(str(key) for key in reversed(location) if not isinstance(key, int))
    pending: list[object] = [ModelEntry.model_fields[field].annotation]
    while pending:
        kind = pending.pop()
        if typing.get_origin(kind) is typing.Literal:
            return kind
        pending.extend(a for a in typing.get_args(kind) if not isinstance(a, str))
    return None
