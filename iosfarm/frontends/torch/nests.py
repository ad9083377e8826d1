"""How the program of a `.pt2` file is called: the nest of its arguments, and that of its results."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

_MOST_DEEP = 50


def nest(text: str, leaves: Iterator[Any]) -> Any:
    """The tuples, lists and dictionaries that torch described as JSON, with these leaves. Named tuples, and whatever
    else Python would have to import, come as plain tuples.

    Raises:
        ValueError: there are not as many leaves. KeyError, TypeError: it is no such description.
    """
    _, spec = json.loads(text)
    made = _made(spec, leaves, 0)
    if next(leaves, _NONE) is not _NONE:
        raise ValueError("more values than its description has")
    return made


_NONE = object()


def _made(spec: dict[str, Any], leaves: Iterator[Any], depth: int) -> Any:
    if depth > _MOST_DEEP:
        raise ValueError("a nest too deep")
    if spec["type"] is None:
        found = next(leaves, _NONE)
        if found is _NONE:
            raise ValueError("fewer values than its description has")
        return found
    children = [_made(child, leaves, depth + 1) for child in spec["children_spec"]]
    if spec["type"] == "builtins.list":
        return children
    if spec["type"] in ("builtins.dict", "collections.OrderedDict"):
        pairs = zip(json.loads(spec["context"]), children, strict=True)
        return dict(pairs) if spec["type"] == "builtins.dict" else OrderedDict(pairs)
    return tuple(children)
