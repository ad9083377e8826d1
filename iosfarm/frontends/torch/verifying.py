"""Whether a graph computes what its module computes: both run once, on the same random numbers.

A program is recorded for one batch size. What a module makes of that size as a number (a division by it, a branch on
it) cannot be told from any other number in the program; it shows here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.imported import Imported
from iosfarm.ir.errors import IosfarmError
from iosfarm.kernels.reference import run_graph

TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.3}
"""Of the largest number, by the dtypes that the module computes in: a graph computes in float32 here."""

MOST_OFF = 0.01
"""Share of the numbers that may be further off. Roundings, the largest of equals and other steps turn a hair's
difference into a whole one, in a few places."""

_MOST_ELEMENTS = 1 << 26
"""Of the example inputs; what reads more is not run."""

_HINT = "no number may depend on the batch size, because a graph serves every batch"


def verify(
    module: Callable[..., Any],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
    found: Imported,
    precisions: Sequence[torch.dtype],
) -> None:
    """Compare a graph with the module in evaluation mode that it was made of.

    arguments, keywords: examples. With a batch of 1 they are taken twice, where the module lets them.
    precisions: what the module computes in.

    Raises:
        CannotImport: the numbers are not the module's.
    """
    leaves, spec = pytree.tree_flatten((tuple(arguments), dict(keywords)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if any(tensor.device.type != "cpu" for tensor in tensors) or sum(t.numel() for t in tensors) > _MOST_ELEMENTS:
        return
    generator = torch.Generator().manual_seed(0)
    for times in (2, 1) if tensors[0].shape[0] == 1 else (1,):
        given = [
            torch.randn(leaf.shape[0] * times, *leaf.shape[1:], generator=generator).to(leaf.dtype)
            if isinstance(leaf, Tensor)
            else leaf
            for leaf in leaves
        ]
        copies = [value.clone() if isinstance(value, Tensor) else value for value in given]
        inputs = [given[place].float().numpy() for place in found.signature.inputs]
        ours, theirs = pytree.tree_unflatten(copies, spec)
        try:
            with torch.no_grad():
                results = pytree.tree_leaves(module(*ours, **theirs))
            expected = [value.detach() if isinstance(value, Tensor) else value for value in results]
        except Exception:  # it takes no other batch than that of its examples
            continue
        _compare(found, inputs, expected, max(TOLERANCE.get(dtype, 1e-3) for dtype in precisions))
        return


def _compare(found: Imported, inputs: Sequence[Any], expected: Sequence[Any], tolerance: float) -> None:
    graph = found.graph.bind(batch=inputs[0].shape[0])
    try:
        outputs = run_graph(graph, found.weights, inputs, torch.float32)
    except (IosfarmError, RuntimeError, ValueError, TypeError, IndexError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CannotImport(
            f"it cannot run with a batch of {graph.batch}: {said}", where=graph.name, hint=_HINT
        ) from None
    for place, value in zip(found.signature.outputs, expected, strict=True):
        if not isinstance(place, int) or not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        off = _share_off(torch.from_numpy(outputs[place]), value.float(), tolerance)
        if off > MOST_OFF:
            what = f"the graph computes other numbers than the module with a batch of {graph.batch}"
            raise CannotImport(f"{what} ({off:.0%} of an output are off)", where=graph.name, hint=_HINT)


def _share_off(actual: Tensor, expected: Tensor, tolerance: float) -> float:
    """Share of the finite numbers that are off by more than the tolerance."""
    if actual.shape != expected.shape and actual.shape[1:] != expected.shape:  # a constant is there for each item
        return 1.0
    finite = expected.isfinite().expand(actual.shape)
    if not finite.any():
        return 0.0
    scale = float(expected[expected.isfinite()].abs().max())
    wrong = (actual - expected).abs() > tolerance * scale
    return float(wrong[finite].float().mean())
