"""Opaque operators: programs of torch operators (see `iosfarm.ir.operators.opaque`), executed from data.

A program may come from a file or a database that nobody vouches for. So an operator runs only if it belongs to
torch's own or to torchvision's, computes without changing its arguments, and takes no text other than the few words
of `_WORDS`: nothing that reads files, and nothing that is looked up by a name.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iosfarm.ir.errors import GraphError, Infeasible
from iosfarm.ir.operators.opaque import OpaqueProgram, read_program

NAMESPACES = ("aten", "torchvision")

DTYPES = {
    name: getattr(torch, name)
    for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
"""Dtypes that a program can name."""

_WORDS = frozenset({"none", "tanh", "mean", "sum", "floor", "trunc", "ij", "xy", "constant", "reflect", "replicate",
                    "circular", "linear", "lower", "higher", "midpoint", "nearest", "left", "right"})  # fmt: skip
_NEVER = frozenset(
    {"from_file", "set_", "set", "as_strided", "resize_", "resize", "record_stream", "empty", "empty_like",
     "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
)  # fmt: skip
_VIEWS = {"aten.view.default": "aten.reshape.default", "aten._unsafe_view.default": "aten.reshape.default"}
"""The tensors that a stage hands on have their own layout, on which a view can fail."""

_MOST_ELEMENTS = 1 << 24

Values = Sequence[Any]

_DROPOUT = {"dropout_p", "train", "training"}
"""Arguments that make an operator random, unless they are 0 or false."""


def operator_of(name: str, arguments: Values = (), keywords: Mapping[str, object] = MappingProxyType({})) -> Any:
    """The torch operator of a name such as `aten.topk.default`, called with such arguments.

    Raises:
        GraphError: there is none, or it may not run.
    """
    name = _VIEWS.get(name, name)
    namespace, kind, overload = name.split(".")
    if namespace not in NAMESPACES or kind in _NEVER:
        raise GraphError(f"the operator {name} is not allowed in a program", hint=f"use one of {', '.join(NAMESPACES)}")
    try:
        found = getattr(getattr(getattr(torch.ops, namespace), kind), overload)
    except (AttributeError, RuntimeError):
        hint = "import torchvision" if namespace == "torchvision" else "it may be of a newer torch"
        raise GraphError(f"this torch has no operator {name}", hint=hint) from None
    random = torch.Tag.nondeterministic_seeded in found.tags and is_random(found, arguments, keywords)
    if found._schema.is_mutable or random:
        raise GraphError(f"the operator {name} is not allowed in a program", hint="it changes tensors, or is random")
    if not found._schema.returns or any("Tensor" not in str(result.type) for result in found._schema.returns):
        # TorchScript's own are among them, and some act on the process, the user or the disk.
        raise GraphError(f"the operator {name} is not allowed in a program", hint="it computes no tensor")
    return found


def is_random(function: Any, arguments: Values, keywords: Mapping[str, object]) -> bool:
    """Whether an operator that can be random is: attention and recurrent layers are so by their dropout alone."""
    names = [argument.name for argument in function._schema.arguments]
    given = {**dict(zip(names, arguments, strict=False)), **keywords}
    switches = _DROPOUT & set(names)
    return not switches or any(given.get(name, 0) not in (0, False) for name in switches)


def bind_program(text: str, weights: Mapping[str, Tensor]) -> Callable[..., Tensor]:
    """The function of a program; tensors in, one tensor out.

    Raises:
        GraphError: it is no program, or an operator in it may not run.
    """
    program = read_program(text)
    operators = [operator_of(*node) for node in program.nodes]
    parameters = [weights[f"p{number}"] for number in range(len(program.parameters))]
    constants: dict[int, Tensor] = {}

    def run(*inputs: Tensor) -> Tensor:
        scope = _Scope(program.batch([tuple(x.shape) for x in inputs]), inputs, parameters, constants)
        for function, (kind, arguments, keywords) in zip(operators, program.nodes, strict=True):
            result = _call(kind, function, scope.values(arguments), {k: scope.value(v) for k, v in keywords.items()})
            scope.results.append(result)
        number, item = program.output
        result = scope.results[number] if item is None else scope.results[number][item]
        return _checked(result, program, scope.batch).to(inputs[0].dtype)

    return run


def _call(kind: str, function: Any, arguments: Values, keywords: Mapping[str, Any]) -> Any:
    try:
        return function(*arguments, **keywords)
    except NotImplementedError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Infeasible(f"torch cannot run {kind}: {what}") from error


def _checked(result: object, program: OpaqueProgram, batch: int) -> Tensor:
    expected = tuple(size if size > 0 else -size * batch for size in program.shape)
    if not isinstance(result, Tensor) or tuple(result.shape) != expected:
        found = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise Infeasible(f"the program ({program.name}) makes {found}, not {list(expected)}")
    return result


class _Scope:
    """What arguments of one execution stand for."""

    def __init__(
        self, batch: int, inputs: Sequence[Tensor], parameters: Sequence[Tensor], constants: dict[int, Tensor]
    ) -> None:
        self.batch = batch
        self.inputs = inputs
        self.parameters = parameters
        self.results: list[Any] = []
        self._constants = constants

    def values(self, items: Sequence[object]) -> list[Any]:
        return [self.value(item) for item in items]

    def value(self, item: object) -> Any:
        if isinstance(item, list):
            return self.values(item)
        if isinstance(item, str) and not is_word(item):
            raise GraphError(f"the text {item[:40]!r} is not allowed in a program")
        if not isinstance(item, dict):
            return item
        if "input" in item:
            return self.inputs[item["input"]]
        if "parameter" in item:
            return self.parameters[item["parameter"]]
        if "node" in item:
            result = self.results[item["node"]]
            return result if item.get("item") is None else result[item["item"]]
        if "batch" in item:
            return item["batch"] * self.batch
        if "float" in item:
            return float(item["float"])
        if "dtype" in item:
            return self.inputs[0].dtype if item["dtype"] == "graph" else DTYPES[item["dtype"]]
        if "tensor" in item:
            if id(item) not in self._constants:
                self._constants[id(item)] = decoded(item["tensor"]).to(self.inputs[0].device)
            return self._constants[id(item)]
        raise GraphError(f"not a program: {sorted(item)} means nothing")


def is_word(text: str) -> bool:
    """Whether an operator may be given this text: a word that switches how it computes, or an equation of einsum."""
    return text in _WORDS or ("->" in text and all(c.isalpha() or c in "->,. " for c in text))


def encoded(tensor: Tensor) -> dict[str, object]:
    """A constant as JSON has it.

    Raises:
        GraphError: it is too large, or of a dtype that a program cannot name.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in DTYPES or name == "bfloat16" or tensor.numel() > _MOST_ELEMENTS:
        raise GraphError(f"a constant of {list(tensor.shape)} {name} cannot be part of a program")
    data = zlib.compress(tensor.detach().cpu().contiguous().numpy().tobytes(), 6)
    return {"dtype": name, "shape": list(tensor.shape), "data": base64.b64encode(data).decode()}


def decoded(document: Mapping[str, Any]) -> Tensor:
    """The constant of `encoded`.

    Raises:
        GraphError: it is none, or too large.
    """
    try:
        shape, dtype = tuple(map(int, document["shape"])), np.dtype(document["dtype"])
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or math.prod(shape) > _MOST_ELEMENTS or document["dtype"] not in DTYPES:
            raise ValueError("size or dtype")
        data = zlib.decompressobj().decompress(base64.b64decode(document["data"], validate=True), size + 1)
        return torch.from_numpy(np.frombuffer(bytearray(data), dtype).reshape(shape).copy())
    except (ValueError, TypeError, KeyError, zlib.error) as error:
        raise GraphError(f"not a constant of a program: {error}") from None
