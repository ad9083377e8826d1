"""`import_module`: a torch module, or an exported program, as a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.imported import Imported
from iosfarm.frontends.importing import import_program
from iosfarm.frontends.torch.exporting import evaluating, exported, rebound
from iosfarm.frontends.torch.reading import read_exported
from iosfarm.frontends.torch.verifying import verify

Examples = Tensor | Sequence[Any] | Mapping[str, Any] | None


def import_module(
    module_or_program: object,
    example_inputs: Examples = None,
    *,
    strict: bool = False,
    name: str | None = None,
    check: bool = True,
) -> Imported:
    """The graph and the weights of a network, as it computes in evaluation mode.

    module_or_program: a `torch.nn.Module` or a `torch.export.ExportedProgram`. example_inputs: a tensor, a sequence of
    positional arguments, or a mapping of keyword arguments; the first axis of every tensor is the batch, and their
    values do not matter. An exported program needs them only where it has dynamic sizes besides the batch. strict: an
    operator without a counterpart is an error. name: of the graph; the module's class unless given. check: run the
    module once, and compare its numbers with the graph's.

    Raises:
        CannotImport: torch cannot export the module (the line says why, and what to change), or there is something in
            it that cannot be: control flow, inputs that are no floating-point tensors, complex numbers, numbers that
            depend on the batch size.
    """
    arguments, keywords = examples(example_inputs)
    if isinstance(module_or_program, ExportedProgram):
        name = name or "program"
        program, exact, batch = rebound(module_or_program, arguments, keywords, name)
        return imported(program, None, None, name, batch=batch, exact=exact, strict=strict)
    if isinstance(module_or_program, torch.nn.Module):
        name = name or type(module_or_program).__name__.lower()
        program, exact, batch = exported(module_or_program, arguments, keywords, name)
        checked = (arguments, keywords) if check else None
        return imported(program, module_or_program, checked, name, batch=batch, exact=exact, strict=strict)
    kind = type(module_or_program).__name__
    raise CannotImport(f"a {kind} is no network", hint="give a torch module, or what torch.export made of one")


def imported(
    program: ExportedProgram,
    module: torch.nn.Module | None,
    checked: tuple[tuple[Any, ...], dict[str, Any]] | None,
    name: str,
    *,
    batch: int,
    exact: bool,
    strict: bool,
) -> Imported:
    """The graph of a program with fixed sizes. module: what it was made of. checked: arguments to compare them with;
    None: no comparison. batch, exact: of `Program`.

    Raises:
        CannotImport: as `import_module`.
    """
    read, signature = read_exported(program, name, batch=batch, exact=exact)
    if module is not None and not exact:
        read.notices.append(
            f"it was exported for a batch of {batch} alone: other batch sizes may not be what the module does"
        )
    found = import_program(read, strict=strict, signature=signature)
    if module is not None and checked is not None:
        with evaluating(module):
            verify(module, *checked, found, read.precisions())
    return found


def examples(given: Examples) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as positional and keyword arguments."""
    if given is None:
        return (), {}
    if isinstance(given, Tensor):
        return (given,), {}
    if isinstance(given, Mapping):
        return (), dict(given)
    return tuple(given), {}
