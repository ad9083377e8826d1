"""Whether a file takes the size of the batch for a number: a graph serves every batch, and cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.program import Node, Program, Ref


def check_batch(program: Program, other: Program, where: str) -> None:
    """Compare one network written down for two batch sizes: sizes may differ, numbers to compute with may not.

    Raises:
        CannotImport: they do.
    """
    for one, two in zip(program.nodes, other.nodes, strict=False):
        pairs = zip(_numbers(program, one), _numbers(other, two), strict=False)
        if one.kind != two.kind or not all(_same(first, second) for first, second in pairs):
            raise CannotImport(
                "it computes with the size of the batch", where=f"{where}: {one.where}",
                hint="export it for a batch of fixed size",
            )  # fmt: skip


def _numbers(program: Program, node: Node) -> Iterator[float | Tensor]:
    """The numbers among the arguments of a node; whole ones are sizes and places."""
    pending: list[Any] = [node.arguments, list(node.keywords.values())]
    while pending:
        value = pending.pop()
        if isinstance(value, (list, tuple)):
            pending += value
        elif isinstance(value, float):
            yield value
        elif isinstance(value, Ref) and value.name in program.constants:
            tensor = program.constants[value.name]
            if tensor.is_floating_point():
                yield tensor


def _same(first: float | Tensor, second: float | Tensor) -> bool:
    if isinstance(first, float) or isinstance(second, float):
        return first is second or (isinstance(first, float) and isinstance(second, float) and first == second)
    if first.data_ptr() == second.data_ptr():
        return True
    if first.shape == second.shape:
        return bool(torch.equal(first.nan_to_num(), second.nan_to_num()))
    # One for each item of the batch: they are the same, or not.
    return bool(torch.equal(torch.unique(first), torch.unique(second)))
