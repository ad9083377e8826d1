"""Writing a program down call by call: what depends on no input is computed at once, of the rest the shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iosfarm.frontends.program import Node, Program, Ref, TensorType, references, replaced
from iosfarm.frontends.rules.registry import operator

Value = Ref | Tensor
"""A tensor of the program, or a constant."""

MOST_ELEMENTS = 1 << 28
"""Of a constant that is computed when a file is imported."""


MOST_REPEATED = 1 << 24
"""Of one that is repeated for each item of the recorded batch: with a batch of 1 it is a thousandth of that."""


def check_elements(count: float, most: float = MOST_ELEMENTS) -> None:
    """Raises ValueError for a constant that is too large to be computed."""
    if count > most:
        raise ValueError(f"a constant of {count:.0e} numbers")


class Emitter:
    """Appends nodes to a program. `where` and `label` go to the next ones."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.where = ""
        self.label = ""
        self._sketches: dict[Ref, Tensor] = {}  # without data
        self._names: dict[int, str] = {}
        for name, kind in program.inputs.items():
            self._sketches[Ref(name)] = torch.empty(kind.shape, dtype=kind.dtype, device="meta")

    def call(self, kind: str, *arguments: Any, **keywords: Any) -> Any:
        """The result, or the results, of an operator of torch, named without `aten.`.

        Raises what torch raises where it cannot be.
        """
        kind = f"aten.{kind}"
        found = operator(kind)
        if not any(True for _ in references([*arguments, *keywords.values()])):
            self._check_size(found, arguments, keywords)
            with torch.no_grad():
                return found(*arguments, **keywords)
        arguments = tuple(replaced(arguments, self._stored))
        keywords = {name: replaced(value, self._stored) for name, value in keywords.items()}
        with torch.no_grad():
            result = found(
                *replaced(arguments, self._sketch), **{k: replaced(v, self._sketch) for k, v in keywords.items()}
            )
        name = f"{self.label}/{len(self.program.nodes)}"
        many = isinstance(result, (list, tuple))
        types: TensorType | list[TensorType | None]
        types = [TensorType.of(item) for item in result] if many else TensorType.of(result)
        self.program.nodes.append(Node(name, kind, arguments, keywords, types, self.where, self.label))
        refs = [Ref(name, item) for item in range(len(result))] if many else [Ref(name)]
        for ref, tensor in zip(refs, result if many else [result], strict=True):
            self._sketches[ref] = tensor
        return refs if many else refs[0]

    def _check_size(self, function: Any, arguments: Any, keywords: Any) -> None:
        """A file of a few bytes can ask for constants of any size."""

        def sketch(value: Any) -> Any:
            if isinstance(value, Tensor):
                check_elements(value.numel())
                return value.to("meta")
            return value

        arguments, keywords = replaced(arguments, sketch), {k: replaced(v, sketch) for k, v in keywords.items()}
        try:
            result = function(*arguments, **keywords)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return  # it says so itself, or its size depends on data
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            check_elements(tensor.numel() if isinstance(tensor, Tensor) else 0)
            if self.program.exact and isinstance(tensor, Tensor) and self.program.batch in tensor.shape:
                check_elements(tensor.numel(), MOST_REPEATED)

    def shape(self, value: Value) -> tuple[int, ...]:
        """Of a tensor, for the batch of the recording."""
        return tuple((value if isinstance(value, Tensor) else self._sketches[value]).shape)

    def dtype(self, value: Value) -> torch.dtype:
        """Of a tensor."""
        return (value if isinstance(value, Tensor) else self._sketches[value]).dtype

    def stored(self, tensor: Tensor, name: str = "") -> Ref:
        """A constant as part of the program."""
        known = self._names.get(id(tensor))
        if known is None:
            known = self._names[id(tensor)] = f"constant {len(self._names)} {name}".strip()
            self.program.constants[known] = tensor
        self._sketches[Ref(known)] = tensor.to("meta")
        return Ref(known)

    def _stored(self, value: Any) -> Any:
        return self.stored(value) if isinstance(value, Tensor) else value

    def _sketch(self, value: Any) -> Any:
        return self._sketches[value] if isinstance(value, Ref) else value
