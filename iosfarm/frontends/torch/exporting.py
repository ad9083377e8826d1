"""From a module to an exported program in which every trace of the batch can be told."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.program import RECORDED_BATCH

_MOST_BYTES = 64 << 30
"""Of inputs as large as the recorded batch makes them. They are only reserved, not filled."""

_LOGGERS = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes", "torch.export._trace")

_HINTS = (
    ("quantized", "import the network before its quantisation"),
    ("data-dependent", "replace `if` and loops over tensor values by torch.where, or fix the value as an argument"),
    ("Could not guard", "replace `if` and loops over tensor values by torch.where, or fix the value as an argument"),
    ("unbacked", "avoid .item(), nonzero and masks as indices: what comes out has no fixed shape"),
    ("meta", "register what the operator returns for tensors without data (torch.library.register_fake)"),
    ("fake", "register what the operator returns for tensors without data (torch.library.register_fake)"),
    ("size mismatch", "example inputs of another shape, perhaps"),
    ("same reduction dim", "example inputs of another shape, perhaps"),
    ("shapes cannot be multiplied", "example inputs of another shape, perhaps"),
    ("expected input", "example inputs of another shape, perhaps"),
    ("positional argument", "give one example for each argument of forward"),
    ("unexpected keyword", "give one example for each argument of forward"),
)


def exported(
    module: torch.nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any], name: str
) -> tuple[ExportedProgram, bool, int]:
    """The program of a module in evaluation mode; whether its batch is the recorded one; its batch.

    Raises:
        CannotImport: torch cannot export it.
    """
    leaves = _leaves(arguments, keywords)
    _check_inputs(leaves, name, pytree.tree_leaves((tuple(arguments), dict(keywords))))
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            hint = "make the module on the CPU, or give it memory with .to_empty() and load its weights"
            raise CannotImport(f"the weight {key!r} has no numbers: it is on the device meta", where=name, hint=hint)
    batch = leaves[0].shape[0]

    def at_recorded(value: Any) -> Any:
        return _resized(value, batch) if isinstance(value, Tensor) else value

    bytes_ = sum(RECORDED_BATCH * leaf.numel() // batch * leaf.element_size() for leaf in leaves)
    with evaluating(module):
        if bytes_ <= _MOST_BYTES:
            try:
                widened = pytree.tree_map(at_recorded, (tuple(arguments), dict(keywords)))
                return _export(module, *widened), True, RECORDED_BATCH
            except Exception:  # whatever it was, the user's own batch is tried, and its error told
                pass
        return exported_as_given(module, arguments, keywords, name)


def exported_as_given(
    module: torch.nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any], name: str
) -> tuple[ExportedProgram, bool, int]:
    """As `exported`, for the batch of the arguments."""
    leaves = _leaves(arguments, keywords)
    _check_inputs(leaves, name)
    try:
        with evaluating(module):
            return _export(module, tuple(arguments), dict(keywords)), False, leaves[0].shape[0]
    except Exception as error:
        raise _explained(error, name) from error


def rebound(
    program: ExportedProgram, arguments: Sequence[Any], keywords: Mapping[str, Any], name: str
) -> tuple[ExportedProgram, bool, int]:
    """The same program with fixed sizes: dynamic batches become the recorded one, others what the examples have."""
    inputs = _user_inputs(program)
    if not inputs:
        raise CannotImport("the program reads no tensor", where=name)
    dynamic = {
        (key, axis): str(size)
        for key, value in inputs.items()
        for axis, size in enumerate(value.shape)
        if not isinstance(size, int)
    }
    if not dynamic:
        _check_inputs(list(inputs.values()), name)
        return program, False, int(next(iter(inputs.values())).shape[0])
    batch_names = {words for (_, axis), words in dynamic.items() if axis == 0}
    open_ = {place: words for place, words in dynamic.items() if words not in batch_names}
    given = dict(zip(inputs, _leaves(arguments, keywords), strict=False))
    if open_ and len(given) < len(inputs):
        (key, axis), words = next(iter(open_.items()))
        raise CannotImport(
            f"axis {axis} of the input {key!r} is dynamic ({words})",
            where=name,
            hint="give example inputs: their sizes are what the program is imported for",
        )

    def fixed(key: str, value: Any) -> Tensor:
        shape = [
            RECORDED_BATCH
            if str(size) in batch_names
            else given[key].shape[axis]
            if (key, axis) in open_
            else int(size)
            for axis, size in enumerate(value.shape)
        ]
        return torch.empty(shape, dtype=value.dtype)

    leaves = iter([fixed(key, value) for key, value in inputs.items()])
    spec = program.call_spec.in_spec
    flat = [next(leaves) if value is _TENSOR else value for value in _user_arguments(program)]
    call_arguments, call_keywords = pytree.tree_unflatten(flat, spec)
    try:
        return _export(program.module(), call_arguments, call_keywords), True, RECORDED_BATCH
    except Exception as error:
        raise _explained(error, name) from error


_TENSOR = object()


def _user_arguments(program: ExportedProgram) -> list[Any]:
    """The flattened arguments, tensors as `_TENSOR`."""
    return [
        value if not isinstance(value, str) or value not in _placeholders(program) else _TENSOR
        for value in program.graph_signature.user_inputs
    ]


def _user_inputs(program: ExportedProgram) -> dict[str, Any]:
    """Tensors (without data) that the caller gives, by name."""
    placeholders = _placeholders(program)
    names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    return {name: placeholders[name] for name in names if isinstance(placeholders.get(name), Tensor)}


def _placeholders(program: ExportedProgram) -> dict[str, Any]:
    return {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}


def _export(module: torch.nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> ExportedProgram:
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        return torch.export.export(module, arguments, keywords, strict=False)


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, and attention in operators that can be told apart; both are put back."""
    training = [part for part in module.modules() if part.training]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for part in training:
        part.training = False
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for part in training:
            part.training = True


@contextmanager
def _quiet() -> Iterator[None]:
    """torch logs what it tries; what matters is in the error."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _leaves(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves((tuple(arguments), dict(keywords))) if isinstance(leaf, Tensor)]


def _check_inputs(leaves: Sequence[Tensor], name: str, given: Sequence[Any] = ()) -> None:
    if not leaves and any(isinstance(leaf, np.ndarray) for leaf in given):
        raise CannotImport("the example inputs are NumPy arrays", where=name, hint="wrap them in torch.from_numpy")
    if not leaves:
        raise CannotImport("there are no example inputs", where=name, hint="give one tensor for each argument")
    for number, leaf in enumerate(leaves):
        what = str(leaf.dtype).removeprefix("torch.")
        if not leaf.dtype.is_floating_point:
            hint = "import what comes after the embedding or the decoding" if not leaf.dtype.is_complex else ""
            raise CannotImport(f"input {number} is {what}; inputs are floating-point tensors", where=name, hint=hint)
        if leaf.dim() < 2 or leaf.shape[0] != leaves[0].shape[0] or min(leaf.shape) < 1:
            raise CannotImport(
                f"input {number} has the shape {[int(s) for s in leaf.shape]}",
                where=name,
                hint="the first axis of every input is the batch, the same for all, and there are others",
            )


def _resized(tensor: Tensor, batch: int) -> Tensor:
    """Memory for the recorded batch, reserved and not touched."""
    assert tensor.shape[0] == batch
    return torch.empty((RECORDED_BATCH, *tensor.shape[1:]), dtype=tensor.dtype, device=tensor.device)


def _explained(error: Exception, name: str) -> CannotImport:
    """What torch said, in a line, and what to change."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if not line.startswith(("from user code", "The following"))), "")
    text = f"{type(error).__name__} {error}"
    hint = next((hint for word, hint in _HINTS if word.lower() in text.lower()), "")
    said = said if len(said) <= 300 else f"{said[:299]}…"
    return CannotImport(
        f"torch cannot export it: {type(error).__name__}: {said}", where=name,
        hint=hint or "torch.export has to take the module as it is",
    )  # fmt: skip
