"""`load`: a graph from a zoo name, a file, a torch module or an exported program."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.ir.errors import GraphError, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.zoo.registry import NETWORKS, create

if TYPE_CHECKING:
    from iosfarm.frontends.imported import Imported, Signature
    from iosfarm.kernels.runtime import Weights

_PICKLES = (".pt", ".pth")
_HINT = "give the name of a built-in model, the path of a graph .json, an .onnx or a .pt2 file, or a torch module"


@dataclass(frozen=True)
class Network:
    """A network and what is known of it. weights None: it came without. notices: what its author should know, a line
    each. signature: how it is called, where it is of torch or ONNX.
    """

    graph: Graph
    weights: Weights | None = None
    notices: tuple[str, ...] = ()
    signature: Signature | None = None


def load(model: object, **arguments: object) -> Graph:
    """The graph of a model, float32, batch 1 unless an ONNX file has another; use `Graph.bind` for others.

    model: the name of a built-in network ("inception_v3"); the path of a graph document (.json), of an ONNX file
        (.onnx) or of a file of `torch.export.save` (.pt2); a `torch.nn.Module`, with `example_inputs`; a `torch.export`
        program; or a `Graph`, which comes back as it is. arguments: of a built-in network, e.g. `load("randwire",
        seed=3)`; of `import_module`, `import_archive` or `import_file` of `iosfarm.frontends`: `strict`, `bindings`, …;
        they give the weights as well. Operators without a counterpart are warned about.

    Raises:
        UsageError: there is no such model, it is of a kind that is not supported, or an argument is wrong.
    """
    network = load_network(model, **arguments)
    for notice in network.notices:
        warnings.warn(f"{network.graph.name}: {notice}", stacklevel=2)
    return network.graph


def load_network(model: object, **arguments: object) -> Network:
    """A model as `load` takes it, with its weights and notices. Raises what `load` raises."""
    if isinstance(model, str) and model in NETWORKS:
        return Network(create(model, arguments))
    if isinstance(model, Graph) or (isinstance(model, str | Path) and _suffix(model) == ".json"):
        if arguments:
            raise UsageError(f"unexpected argument {next(iter(arguments))!r}", hint="only built-in models take any")
        return Network(model if isinstance(model, Graph) else _read(Path(model)))
    if isinstance(model, str | Path) and _suffix(model) == ".onnx":
        from iosfarm.frontends.onnx import import_file

        _check(arguments, import_file, str(model))
        return _imported(import_file(model, **arguments))  # type: ignore[arg-type]
    if isinstance(model, str | Path) and _suffix(model) == ".pt2":
        from iosfarm.frontends.torch import import_archive

        _check(arguments, import_archive, str(model))
        return _imported(import_archive(model, **arguments))  # type: ignore[arg-type]
    if isinstance(model, str | Path) and _suffix(model) in _PICKLES:
        raise UsageError(
            "pickled modules are not loaded: reading one can run any code", where=str(model),
            hint="save it with torch.export.save as .pt2, or load it yourself if you trust it and give the module",
        )  # fmt: skip
    if isinstance(model, Path) or (isinstance(model, str) and ("/" in model or "\\" in model)):
        return Network(_read(Path(model)))
    if isinstance(model, str):
        return Network(create(model, arguments))  # raises, naming the nearest
    return _of_torch(model, arguments)


def _of_torch(model: object, arguments: Mapping[str, object]) -> Network:
    kind = f"{type(model).__module__.split('.')[0]}.{type(model).__name__}"
    # What is no module of torch need not load it.
    if not any(base.__module__.startswith("torch.") for base in type(model).__mro__):
        raise UsageError(f"a {kind} is no network", hint=_HINT)
    from iosfarm.frontends.torch import import_module

    _check(arguments, import_module, kind)
    return _imported(import_module(model, **arguments))  # type: ignore[arg-type]


def _check(arguments: Mapping[str, object], function: Callable[..., object], where: str) -> None:
    """All parameters but the first can be given."""
    known = list(inspect.signature(function).parameters)[1:]
    for name in arguments:
        if name not in known:
            raise UsageError(f"unexpected argument {name!r}", where=where, hint=f"expected one of {', '.join(known)}")


def _imported(found: Imported) -> Network:
    return Network(found.graph, found.weights, found.notices, found.signature)


def _suffix(model: str | Path) -> str:
    return Path(model).suffix.lower()


def _read(path: Path) -> Graph:
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
