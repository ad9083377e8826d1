"""The program of a `.pt2` file as a module that computes it, operator by operator.

A file is data from anywhere. What it names runs only if it is an operator of torch's or torchvision's own that
computes tensors from tensors, by the rules of `iosfarm.kernels.opaque`, or arithmetic of sizes from a short list.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.torch.archive import DTYPES
from iosfarm.ir.errors import GraphError
from iosfarm.kernels.opaque import is_word, operator_of

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in
       ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_")},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
    "torch.sym_int": int, "torch.sym_float": float, "torch.sym_max": max, "torch.sym_min": min,
    "torch.sym_not": operator.not_,
}  # fmt: skip
"""Of sizes, which are plain numbers when the program is replayed."""

_LARGEST = 1 << 62
"""Of a size."""

_SIZES: dict[str, Callable[..., Any]] = {
    "aten.sym_size.int": lambda tensor, axis: tensor.size(axis),
    "aten.sym_stride.int": lambda tensor, axis: tensor.stride(axis),
    "aten.sym_numel.default": lambda tensor: tensor.numel(),
}

_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}

_STRIDED = 7


@dataclass(frozen=True)
class Step:
    """One call. arguments, keywords: as the file has them. outputs: names, None for what has none; a single one for
    an operator with one result. origin: what the file says of where it comes from.
    """

    function: Callable[..., Any]
    arguments: tuple[Mapping[str, Any], ...]
    keywords: Mapping[str, Mapping[str, Any]]
    outputs: str | tuple[str | None, ...]
    origin: Mapping[str, str]


class Steps:
    """Reads the nodes of a graph in a file, and of the graphs inside of it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.steps: list[Step] = []

    def read(self, graph: Mapping[str, Any]) -> list[int]:
        """Numbers of the steps of a graph.

        Raises:
            CannotImport: something in it may not run, or cannot be replayed.
        """
        numbers = []
        for node in graph["nodes"]:
            step = self._step(node)
            if step is not None:
                self.steps.append(step)
                numbers.append(len(self.steps) - 1)
        return numbers

    def _step(self, node: Mapping[str, Any]) -> Step | None:
        target = str(node["target"])
        kind = target.removeprefix("torch.ops.")
        name = kind.rpartition(".")[0].rpartition(".")[2]
        if target.startswith("torch.ops.") and ("_assert" in name or name.startswith("sym_constrain_range")):
            return None
        positional = tuple(item["arg"] for item in node["inputs"] if item.get("kind") != 2)
        keywords = {str(item["name"]): item["arg"] for item in node["inputs"] if item.get("kind") == 2}
        outputs = _results(node["outputs"])
        origin = {str(key): str(text) for key, text in (node.get("metadata") or {}).items()}
        if kind in ("higher_order.wrap_with_set_grad_enabled", "higher_order.wrap_with_autocast"):
            return self._block(kind, positional, outputs, origin)
        if kind.startswith("higher_order.") and kind != target:
            raise CannotImport(
                f"control flow ({kind.removeprefix('higher_order.')})", where=self._where,
                hint="replace it by torch.where, or export the branch that is taken",
            )  # fmt: skip
        return Step(self._function(target, kind, positional, keywords), positional, keywords, outputs, origin)

    def _block(self, kind: str, positional: Sequence[Any], outputs: Any, origin: Mapping[str, str]) -> Step:
        """What is computed with or without gradients, or with mixed precision switched off: as if it were not so."""
        place = next(number for number, argument in enumerate(positional) if "as_graph" in argument)
        if kind.endswith("autocast") and positional[2].get("as_bool"):
            raise CannotImport(
                "mixed precision (autocast)", where=self._where,
                hint="export the network without autocast, and bind the graph to the dtype that you want",
            )  # fmt: skip
        graph = positional[place]["as_graph"]["graph"]
        names = [argument["as_tensor"]["name"] for argument in graph["inputs"]]
        numbers = self.read(graph)

        def run(*values: Any) -> Any:
            scope = Scope(self.steps, dict(zip(names, values, strict=True)))
            scope.run(numbers)
            return tuple(scope.value(argument) for argument in graph["outputs"])

        outputs = (outputs,) if isinstance(outputs, str) else outputs
        return Step(run, tuple(positional[place + 1 :]), {}, outputs, origin)

    def _function(
        self, target: str, kind: str, positional: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Callable[..., Any]:
        if target in _ARITHMETIC:
            return _sized(_ARITHMETIC[target])
        if kind in _SIZES:
            return _SIZES[kind]
        if kind == target or kind.count(".") != 2:
            raise CannotImport(f"{target[:80]!r} is no operator that a file may name", where=self._where)
        if kind in ("aten.item.default", "aten._local_scalar_dense.default"):
            raise CannotImport(
                "sizes depend on data (.item())", where=self._where, hint="what comes out of it has no fixed shape"
            )
        try:
            arguments = [next(iter(value.values())) for value in positional]
            named = {name: next(iter(value.values())) for name, value in keywords.items()}
            return _changing(kind) or operator_of(kind, arguments, named)
        except GraphError as error:
            raise CannotImport(error.what, where=self._where, hint=error.hint) from None


def _changing(kind: str) -> Callable[..., Any] | None:
    """The operator that changes its first argument, where the one that makes a new tensor may run; else None."""
    namespace, base, overload = kind.split(".")
    if namespace != "aten" or not base.endswith("_") or base.startswith("_"):
        return None
    try:
        operator_of(f"aten.{base.removesuffix('_')}.{overload}")
        found = getattr(getattr(torch.ops.aten, base), overload)
    except (GraphError, AttributeError, RuntimeError):
        return None
    changed = [number for number, a in enumerate(found._schema.arguments) if a.alias_info and a.alias_info.is_write]
    return found if changed == [0] else None


def _sized(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(*values: Any) -> Any:
        result = function(*values)
        if not -_LARGEST < result < _LARGEST:
            raise ValueError("a size beyond all bounds")
        return result

    return compute


def _results(outputs: Sequence[Mapping[str, Any]]) -> str | tuple[str | None, ...]:
    if len(outputs) == 1:
        ((kind, value),) = outputs[0].items()
        if kind == "as_tensors":
            return tuple(str(item["name"]) for item in value)
        return _result(outputs[0]) or ""
    return tuple(_result(output) for output in outputs)


def _result(output: Mapping[str, Any]) -> str | None:
    ((kind, value),) = output.items()
    if kind == "as_none":
        return None
    if kind not in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        raise ValueError(f"an operator returns {kind}")
    return str(value["name" if kind == "as_tensor" else "as_name"])


class _Call(nn.Module):
    """One step. As a module of its own, torch.export writes its number down beside what it computes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        return self._function(*arguments, **keywords)


class Scope:
    """Values by name, while steps run."""

    def __init__(self, steps: Sequence[Step], values: dict[str, Any], calls: Sequence[nn.Module] = ()) -> None:
        self._steps = steps
        self._calls = calls
        self._values = values

    def run(self, numbers: Sequence[int]) -> None:
        """Execute steps in turn."""
        for number in numbers:
            step = self._steps[number]
            function = self._calls[number] if self._calls else step.function
            result = function(
                *[self.value(argument) for argument in step.arguments],
                **{name: self.value(argument) for name, argument in step.keywords.items()},
            )
            if isinstance(step.outputs, str):
                self._values[step.outputs] = result
                continue
            for name, value in zip(step.outputs, result, strict=True):
                if name is not None:
                    self._values[name] = value

    def value(self, argument: Mapping[str, Any]) -> Any:
        """What an argument of the file stands for.

        Raises:
            ValueError: nothing that may be in a file.
        """
        ((kind, value),) = argument.items()
        if kind in _VALUES:
            return _VALUES[kind](value)
        if kind == "as_tensor":
            return self._values[value["name"]]
        if kind == "as_tensors":
            return [self._values[item["name"]] for item in value]
        if kind == "as_optional_tensor":
            return self.value(value)
        if kind == "as_optional_tensors":
            return [self.value(item) for item in value]
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return self._values[value["as_name"]] if "as_name" in value else self.value(value)
        if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return [self.value({kind[:-1]: item}) for item in value]
        raise ValueError(f"an argument {kind[:40]!r}")


def _word(text: Any) -> str:
    if not is_word(str(text)):
        raise ValueError(f"the text {str(text)[:40]!r}")
    return str(text)


def _layout(number: Any) -> torch.layout:
    if number != _STRIDED:
        raise ValueError("a layout that is not strided")
    return torch.strided


_VALUES: dict[str, Callable[[Any], Any]] = {
    "as_none": lambda _: None,
    "as_int": int,
    "as_ints": lambda values: [int(value) for value in values],
    "as_int_lists": lambda lists: [[int(value) for value in values] for values in lists],
    "as_float": float,
    "as_floats": lambda values: [float(value) for value in values],
    "as_bool": bool,
    "as_bools": lambda values: [bool(value) for value in values],
    "as_string": _word,
    "as_scalar_type": lambda number: DTYPES[number],
    "as_memory_format": lambda number: _FORMATS[number],
    "as_layout": _layout,
    "as_device": lambda _: torch.device("cpu"),
}


class Replay(nn.Module):
    """Computes a graph of a file. inputs: names of what it is called with, in order. tensors: by name in the graph."""

    def __init__(
        self, graph: Mapping[str, Any], inputs: Sequence[str], tensors: Mapping[str, Tensor], outputs: Sequence[Any],
        arrange: Callable[[Sequence[Any]], Any], where: str,
    ) -> None:  # fmt: skip
        super().__init__()
        reader = Steps(where)
        self._numbers = reader.read(graph)
        self._steps = reader.steps
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._arrange = arrange
        self.calls = nn.ModuleList(_Call(step.function) for step in self._steps)
        self._tensors = {name: f"tensor_{number}" for number, name in enumerate(tensors)}
        for name, tensor in tensors.items():
            self.register_buffer(self._tensors[name], tensor)

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """As the program that was saved."""
        leaves = torch.utils._pytree.tree_leaves((arguments, keywords))
        values = {name: getattr(self, place) for name, place in self._tensors.items()}
        scope = Scope(self._steps, values | dict(zip(self._inputs, leaves, strict=True)), list(self.calls))
        scope.run(self._numbers)
        return self._arrange([scope.value(output) for output in self._outputs])

    def origin(self, path: str) -> Mapping[str, str]:
        """What the file says of the step whose call has this path in the module; empty where it is none."""
        parts = path.split("@")[0].split(".")
        return self._steps[int(parts[1])].origin if parts[0] == "calls" and len(parts) > 1 else {}
