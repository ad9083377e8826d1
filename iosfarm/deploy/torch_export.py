"""Graphs as plain torch modules: convolutions, linear layers and batch norms with weights, functions for the rest."""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, fx, nn

from iosfarm.farm.schedule_file import OutputError
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph, Operator
from iosfarm.kernels.runtime import Weights


def to_module(graph: Graph, weights: Weights) -> fx.GraphModule:
    """A module in evaluation mode that takes the graph's inputs, NCHW, and returns its output, or a tuple of several.

    It is made of `nn.Conv2d`, `nn.Linear`, `nn.BatchNorm2d` and functions: `print(module.code)` shows it, `state_dict`
    has the weights by operator, and `torch.export` and `torch.compile` take it.

    Raises:
        UsageError: an operator cannot be exported. KeyError: a weight is missing.
    """
    writer = _ModuleWriter(graph, weights)
    for position, item in enumerate(graph.operators):
        if item.kind not in KINDS:
            where = f"{graph.name}: operator {position} {item.name!r}"
            raise UsageError(f"{item.kind} cannot be exported to torch", where=where)
        writer.write(item)
    return writer.module()


def save_program(graph: Graph, weights: Weights, path: Path) -> None:
    """Write the graph as an exported program (`.pt2`), which `torch.export.load` reads without any code of ours.

    Raises:
        OutputError: it cannot be written. UsageError, KeyError: as `to_module`.
    """
    dtype = getattr(torch, graph.dtype)
    examples = tuple(torch.zeros(graph.shape(item.name), dtype=dtype) for item in graph.inputs)
    program = torch.export.export(to_module(graph, weights), examples)
    try:
        with path.open("wb") as file:
            torch.export.save(program, file)
    except OSError as error:
        raise OutputError(f"cannot write the program: {error.strerror or error}", where=str(path)) from error


class _ModuleWriter:
    """An fx graph under construction, and the layers that it calls."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph = graph
        self._weights = weights
        self._dtype: torch.dtype = getattr(torch, graph.dtype)
        self._layers = nn.Module()
        self._code = fx.Graph()
        self._nodes = {item.name: self._code.placeholder(self._identifier(item.name)) for item in graph.inputs}

    def write(self, operator: Operator) -> None:
        """Append an operator."""
        sources = [self._nodes[name] for name in operator.inputs]
        result = _WRITERS[operator.kind](self, operator, sources)
        activation = str(operator.attributes.get("activation", "none"))
        if activation != "none":
            result = self.call(_ACTIVATIONS[activation], result)
        self._nodes[operator.name] = result

    def call(self, function: Callable[..., Tensor], *arguments: object, **named: object) -> fx.Node:
        """Append a call of a function."""
        return self._code.call_function(function, cast("tuple[fx.node.Argument, ...]", arguments), named)  # type: ignore[arg-type]

    def layer(self, operator: Operator, layer: nn.Module, source: fx.Node) -> fx.Node:
        """Append a call of a layer that was made without memory; it gets the operator's weights."""
        state = {name: self._tensor(f"{operator.name}.{name}") for name in self.graph.parameters(operator)}
        layer.load_state_dict(state, strict=False, assign=True)
        name = self._identifier(operator.name)
        while hasattr(self._layers, name):
            name += "_"
        self._layers.add_module(name, layer)
        return self._code.call_module(name, (source,))

    def module(self) -> fx.GraphModule:
        """What was written."""
        outputs = [self._nodes[name] for name in self.graph.outputs]
        self._code.output(outputs[0] if len(outputs) == 1 else tuple(outputs))
        self._code.lint()
        return fx.GraphModule(self._layers, self._code, self._identifier(self.graph.name)).eval()

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self._weights[name])).to(self._dtype)

    @staticmethod
    def _identifier(name: str) -> str:
        text = re.sub(r"\W", "_", name, flags=re.ASCII)
        return text if text.isidentifier() and not keyword.iskeyword(text) else f"_{text}"


Writer = Callable[[_ModuleWriter, Operator, Sequence[fx.Node]], fx.Node]


def _ints(operator: Operator, name: str) -> tuple[int, int]:
    return cast("tuple[int, int]", operator.attributes[name])


def _int(operator: Operator, name: str) -> int:
    return cast("int", operator.attributes[name])


def _float(operator: Operator, name: str) -> float:
    return cast("float", operator.attributes[name])


def _conv2d(w: _ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    with torch.device("meta"):
        layer = nn.Conv2d(
            w.graph.shape(o.inputs[0])[1],
            _int(o, "out_channels"),
            _ints(o, "kernel"),
            _ints(o, "stride"),
            _ints(o, "padding"),
            _ints(o, "dilation"),
            _int(o, "groups"),
            bool(o.attributes["bias"]),
        )
    return w.layer(o, layer, sources[0])


def _linear(w: _ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    with torch.device("meta"):
        layer = nn.Linear(w.graph.shape(o.inputs[0])[-1], _int(o, "out_features"), bool(o.attributes["bias"]))
    return w.layer(o, layer, sources[0])


def _batch_norm(w: _ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    layer = nn.BatchNorm2d(w.graph.shape(o.inputs[0])[1], eps=_float(o, "eps"), device="meta")
    layer.num_batches_tracked = None  # it counts in training only, and would be the one tensor without a value
    return w.layer(o, layer, sources[0])


def _max_pool(w: _ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    ceil = bool(o.attributes["ceil_mode"])
    window = _ints(o, "kernel"), _ints(o, "stride"), _ints(o, "padding")
    return w.call(F.max_pool2d, sources[0], *window, ceil_mode=ceil)


def _avg_pool(w: _ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    flags = bool(o.attributes["ceil_mode"]), bool(o.attributes["count_include_pad"])
    return w.call(F.avg_pool2d, sources[0], _ints(o, "kernel"), _ints(o, "stride"), _ints(o, "padding"), *flags)


def _adaptive(function: Callable[..., Tensor]) -> Writer:
    return lambda w, o, sources: w.call(function, sources[0], _ints(o, "output_size"))


def _chain(function: Callable[..., Tensor]) -> Writer:
    def write(w: _ModuleWriter, _: Operator, sources: Sequence[fx.Node]) -> fx.Node:
        result = sources[0]
        for other in sources[1:]:
            result = w.call(function, result, other)
        return result

    return write


def _pad(w: _ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    amounts, mode = cast("tuple[int, ...]", o.attributes["padding"]), str(o.attributes["mode"])
    if mode == "constant":
        return w.call(F.pad, sources[0], amounts, value=_float(o, "value"))
    # torch crops by negative amounts in constant mode only. Growing comes first: what is cropped may be reflected.
    grown = w.call(F.pad, sources[0], tuple(max(0, amount) for amount in amounts), mode=mode)
    return grown if min(amounts) >= 0 else w.call(F.pad, grown, tuple(min(0, amount) for amount in amounts))


def _resize(w: _ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    corners = bool(o.attributes["align_corners"]) if o.attributes["mode"] == "bilinear" else None
    return w.call(F.interpolate, sources[0], _ints(o, "size"), mode=o.attributes["mode"], align_corners=corners)


def _slice(w: _ModuleWriter, o: Operator, sources: Sequence[fx.Node]) -> fx.Node:
    axis, step = cast("int", o.attributes.get("axis", 1)), o.attributes.get("step", 1)
    if step == 1:
        return w.call(torch.narrow, sources[0], axis, _int(o, "start"), _int(o, "stop") - _int(o, "start"))
    place = (slice(None),) * (axis % len(w.graph.shape(o.name))) + (slice(_int(o, "start"), _int(o, "stop"), step),)
    return w.call(operator.getitem, sources[0], place)


def _plain(function: Callable[..., Tensor]) -> Writer:
    return lambda w, _, sources: w.call(function, sources[0])


_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
}

_WRITERS: dict[str, Writer] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": lambda w, _, sources: w.call(F.adaptive_avg_pool2d, sources[0], 1),
    "global_max_pool": lambda w, _, sources: w.call(F.adaptive_max_pool2d, sources[0], 1),
    "adaptive_avg_pool": _adaptive(F.adaptive_avg_pool2d),
    "adaptive_max_pool": _adaptive(F.adaptive_max_pool2d),
    "add": _chain(torch.add),
    "mul": _chain(torch.mul),
    **{kind: _plain(function) for kind, function in _ACTIVATIONS.items()},
    "leaky_relu": lambda w, o, sources: w.call(F.leaky_relu, sources[0], _float(o, "negative_slope")),
    "elu": lambda w, o, sources: w.call(F.elu, sources[0], _float(o, "alpha")),
    "softmax": lambda w, o, sources: w.call(torch.softmax, sources[0], _int(o, "axis")),
    "dropout": lambda _, __, sources: sources[0],
    "concat": lambda w, o, sources: w.call(torch.cat, list(sources), o.attributes.get("axis", 1)),
    "slice": _slice,
    "flatten": lambda w, _, sources: w.call(torch.flatten, sources[0], 1),
    "pad": _pad,
    "resize": _resize,
}

KINDS = frozenset(_WRITERS)
"""The operators that can be written."""
