"""A network as a list of torch operators: what every front end makes and the lowering reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

RECORDED_BATCH = 1009
"""Programs are recorded for a batch that is a prime no other size is likely to be a multiple of: so it shows in every
shape and argument where the batch went."""


@dataclass(frozen=True)
class TensorType:
    """Shape, for the batch of the recording, and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> TensorType:
        """Of a tensor, real or not."""
        return cls(tuple(int(size) for size in tensor.shape), tensor.dtype)


@dataclass(frozen=True)
class Ref:
    """A tensor: an input or a constant, the result of a node, or one of its results."""

    name: str
    item: int | None = None


@dataclass(frozen=True)
class Node:
    """One call. kind: `aten.conv2d.default`. arguments: values, lists, and `Ref` for tensors. types: of the result, or
    of each result; None where it is no tensor. where: how its author would find it. label: a name for its operator.
    """

    name: str
    kind: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    types: TensorType | list[TensorType | None]
    where: str
    label: str

    def refs(self) -> Iterator[Ref]:
        """The tensors that it reads."""
        return references([*self.arguments, *self.keywords.values()])


@dataclass
class Program:
    """inputs: name -> type. constants: name -> weights and other tensors. outputs: tensors, or values as they are.
    batch: of the recording. exact: it is a prime that marks the batch wherever it is; else it can be told by position
    only. dtype: of the floating-point inputs.
    """

    name: str
    inputs: dict[str, TensorType]
    constants: dict[str, Tensor]
    nodes: list[Node]
    outputs: list[Any]
    batch: int
    exact: bool
    notices: list[str] = field(default_factory=list)

    def precisions(self) -> list[torch.dtype]:
        """The floating-point dtypes that it computes in, those of its inputs first."""
        types: list[TensorType | None] = [*self.inputs.values()]
        for node in self.nodes:
            types += [node.types] if isinstance(node.types, TensorType) else node.types
        return list(dict.fromkeys(kind.dtype for kind in types if kind and kind.dtype.is_floating_point))


def references(values: Any) -> Iterator[Ref]:
    """All `Ref`s in a nest of lists."""
    if isinstance(values, Ref):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from references(value)


def replaced(value: Any, by: Any) -> Any:
    """A nest of lists with `by` called on every leaf."""
    if isinstance(value, (list, tuple)):
        return [replaced(item, by) for item in value]
    return by(value)
