"""How a compiled model is called: like the graph, or like the module that it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.utils import _pytree as pytree

from iosfarm.deploy.tensors import as_dtype
from iosfarm.frontends.imported import Signature as Places
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph


class Signature(Protocol):
    """How a model is called: which argument is which input of the graph, and what the outputs become."""

    def inputs(self, arguments: Sequence[object], named: Mapping[str, object]) -> list[object]:
        """The graph's inputs, in order.

        Raises:
            UsageError: an argument is missing, unknown or too many.
        """
        ...

    def result(self, outputs: Sequence[object]) -> Any:
        """What a call returns."""
        ...


class GraphSignature:
    """Inputs by position or name; one output as it is, several as a tuple."""

    def __init__(self, graph: Graph) -> None:
        self._name = graph.name
        self._names = [item.name for item in graph.inputs]

    def inputs(self, arguments: Sequence[object], named: Mapping[str, object]) -> list[object]:
        """See `Signature.inputs`."""
        names = self._names
        if not named and len(arguments) == len(names):
            return list(arguments)
        expected = f"it takes {', '.join(names)}"
        if len(arguments) > len(names):
            raise UsageError(f"{len(arguments)} inputs", where=self._name, hint=expected)
        given = dict(zip(names, arguments, strict=False))
        for name, value in named.items():
            if name not in names or name in given:
                what = "an unknown input" if name not in names else "twice the input"
                raise UsageError(f"{what} {name!r}", where=self._name, hint=expected)
            given[name] = value
        missing = [name for name in names if name not in given]
        if missing:
            raise UsageError(f"the input {missing[0]!r} is missing", where=self._name, hint=expected)
        return [given[name] for name in names]

    def result(self, outputs: Sequence[object]) -> Any:
        """See `Signature.result`."""
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


class ModuleSignature:
    """As a module's `forward`: positional and keyword arguments in any nest, and results in the nest that it returns.

    What is no tensor among the arguments was fixed when the module was imported. Results have the dtypes that the
    module gives them; whole numbers among them were computed in float32, which holds them up to 2^24. forward: for the
    names of its arguments; None: they are passed as they were given then.
    """

    def __init__(self, graph: Graph, places: Places, forward: Callable[..., object] | None) -> None:
        self._plain = GraphSignature(graph) if places.in_spec is None else None
        self._name = graph.name
        self._places = places
        whole = next((d for d in places.dtypes if d is not None and not d.is_floating_point), None)
        if whole is not None and whole is not torch.bool and graph.dtype != "float32":
            what = f"an output is {str(whole).removeprefix('torch.')}, which {graph.dtype} cannot hold exactly"
            raise UsageError(what, where=graph.name, hint="compile it in float32")
        self._signature = inspect.signature(forward) if forward is not None else None

    def inputs(self, arguments: Sequence[object], named: Mapping[str, object]) -> list[object]:
        """See `Signature.inputs`."""
        if self._plain is not None:
            return self._plain.inputs(arguments, named)
        if self._signature is not None:
            try:
                bound = self._signature.bind(*arguments, **named)
            except TypeError as error:
                raise UsageError(str(error), where=self._name, hint=f"it takes {self._signature}") from None
            arguments, named = bound.args, bound.kwargs
        leaves, spec = pytree.tree_flatten((tuple(arguments), dict(named)))
        if spec != self._places.in_spec:
            raise UsageError(
                "arguments in another arrangement than that of the example inputs",
                where=self._name,
                hint=f"expected {_words(self._places.in_spec)}, got {_words(spec)}",
            )
        return [leaves[place] for place in self._places.inputs]

    def result(self, outputs: Sequence[object]) -> Any:
        """See `Signature.result`."""
        values: list[Any] = [outputs[place] if isinstance(place, int) else place[0] for place in self._places.outputs]
        for number, dtype in enumerate(self._places.dtypes):
            if dtype is not None:
                values[number] = as_dtype(values[number], dtype)
        if self._places.out_spec is None:
            return values[0] if len(values) == 1 else tuple(values)
        return pytree.tree_unflatten(values, self._places.out_spec)


def _words(spec: Any) -> str:
    """The nest of arguments with every leaf as a dot."""
    arguments, named = pytree.tree_unflatten([_DOT] * spec.num_leaves, spec)
    text = ", ".join([*map(str, arguments), *(f"{name}={value}" for name, value in named.items())]) or "nothing"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 80
"""Characters of a nest of arguments in a message."""


class _Dot:
    def __repr__(self) -> str:
        return "·"


_DOT = _Dot()
