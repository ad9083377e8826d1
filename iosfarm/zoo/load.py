"""`load`: a graph from a zoo name or a file."""

from __future__ import annotations

import json
from pathlib import Path

from iosfarm.ir.errors import GraphError, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.zoo.registry import NETWORKS, create

_NOT_YET = {".onnx": "ONNX files", ".pt": "torch files", ".pt2": "torch files", ".pth": "torch files"}
_HINT = "give the name of a built-in model or the path of a graph .json file"


def load(model: object, **arguments: object) -> Graph:
    """The graph of a model, batch 1, float32; use `Graph.bind` for others.

    model: the name of a built-in network ("inception_v3"), the path of a graph document (.json), or a `Graph`, which
        comes back as it is. arguments: of a built-in network, e.g. `load("randwire", seed=3)`.

    Raises:
        UsageError: there is no such model, it is of a kind that is not supported, or an argument is wrong.
    """
    if isinstance(model, str) and model in NETWORKS:
        return create(model, arguments)
    if isinstance(model, (Graph, Path)) or (isinstance(model, str) and _is_path(model)):
        if arguments:
            raise UsageError(f"unexpected argument {next(iter(arguments))!r}", hint="only built-in models take any")
        return model if isinstance(model, Graph) else _read(Path(model))
    if isinstance(model, str):
        return create(model, arguments)  # raises, naming the nearest
    kind = f"{type(model).__module__.split('.')[0]}.{type(model).__name__}"
    raise UsageError(f"loading a {kind} is not supported yet", hint=_HINT)


def _is_path(model: str) -> bool:
    return "/" in model or "\\" in model or Path(model).suffix.lower() in {".json", *_NOT_YET}


def _read(path: Path) -> Graph:
    if path.suffix.lower() in _NOT_YET:
        raise UsageError(f"loading {_NOT_YET[path.suffix.lower()]} is not supported yet", where=str(path), hint=_HINT)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read this graph: {error.strerror}", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a JSON document: {error}", where=str(path)) from None
    try:
        return Graph.from_json(document)
    except GraphError as error:
        where = f"{path}: {error.where}" if error.where else str(path)
        raise GraphError(error.what, where=where, hint=error.hint) from None
