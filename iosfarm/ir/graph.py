"""`Graph`: an immutable network of operators, shape-inferred, divided into the units that a schedule places."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property

from iosfarm.ir.device import canonical_json
from iosfarm.ir.document import FORMAT, FORMAT_VERSION, read_document
from iosfarm.ir.errors import GraphError, UsageError
from iosfarm.ir.nodes import GraphInput as GraphInput
from iosfarm.ir.nodes import Operator as Operator
from iosfarm.ir.nodes import Unit as Unit
from iosfarm.ir.operators import Shape, spec
from iosfarm.ir.ordering import sorted_operators, sorted_units

DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Supported dtypes and their bytes an element."""

MAX_BATCH = 65536
MAX_ELEMENTS = 2**40


def check_input_shape(shape: Sequence[int], where: str) -> None:
    """The shape of an input, without the batch, has to be of positive integers.

    Raises:
        GraphError: it is not.
    """
    if not shape or not all(type(length) is int and 1 <= length < MAX_ELEMENTS for length in shape):
        raise GraphError(f"the shape {list(shape)}", where=where, hint="use positive integers, without the batch")


class Graph:
    """A network, immutable once built.

    operators: in any order that can be sorted topologically. units: a partition of the operators; None makes each
    operator a unit. outputs: names of operators (or inputs). Shapes are inferred for `batch`.

    Raises:
        GraphError: duplicate or missing names, a cycle, no output, an unknown operator, shapes that do not fit, units
            that are no partition or whose inner results are read from outside.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[GraphInput],
        operators: Sequence[Operator],
        outputs: Sequence[str],
        *,
        units: Sequence[Unit] | None = None,
        batch: int = 1,
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"unknown dtype {dtype!r}", where=name, hint=f"use one of {', '.join(DTYPES)}")
        if type(batch) is not int or not 1 <= batch <= MAX_BATCH:
            raise UsageError(f"batch size {batch!r}", where=name, hint=f"use an integer from 1 to {MAX_BATCH}")
        if not inputs:
            raise GraphError("a graph needs an input", where=name)
        if not outputs:
            raise GraphError("a graph needs an output", where=name)
        self.name = name
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.batch = batch
        self.dtype = dtype
        self.operators = sorted_operators(name, self.inputs, operators)
        self._by_name = {operator.name: operator for operator in self.operators}
        self.shapes: Mapping[str, Shape] = self._infer()
        for output in self.outputs:
            if output not in self.shapes:
                raise GraphError(f"the output {output!r} is not in the graph", where=name)
        if units is None:
            units = [Unit(operator.name, (operator.name,)) for operator in self.operators]
        self.units = sorted_units(name, self.operators, self.outputs, units)

    # -- looking things up ---------------------------------------------------------------------------------------

    def operator(self, name: str) -> Operator:
        """The operator of that name; KeyError if there is none."""
        return self._by_name[name]

    def shape(self, name: str) -> Shape:
        """Shape of an operator's output or of a graph input, batch included."""
        return self.shapes[name]

    def input_shapes(self, operator: Operator) -> list[Shape]:
        """Shapes of an operator's inputs, in order."""
        return [self.shapes[name] for name in operator.inputs]

    def parameters(self, operator: Operator) -> dict[str, Shape]:
        """Shapes of an operator's weights: `weight`, `bias`, …; empty for most operators."""
        return spec(operator.kind).parameters(operator.attributes, self.input_shapes(operator))

    def flops(self, operator: Operator) -> int:
        """Floating-point operations of one execution; a multiply-add counts as two."""
        shapes = self.input_shapes(operator)
        return spec(operator.kind).flops(operator.attributes, shapes, self.shapes[operator.name])

    @cached_property
    def unit_of(self) -> Mapping[str, int]:
        """Operator name -> index of its unit in `units`."""
        return {name: index for index, unit in enumerate(self.units) for name in unit.operators}

    @cached_property
    def unit_inputs(self) -> tuple[tuple[str, ...], ...]:
        """For each unit the tensors that it reads from outside, each once, in the order of first use."""
        result = []
        for unit in self.units:
            own = set(unit.operators)
            read = [i for name in unit.operators for i in self._by_name[name].inputs if i not in own]
            result.append(tuple(dict.fromkeys(read)))
        return tuple(result)

    @cached_property
    def unit_predecessors(self) -> tuple[tuple[int, ...], ...]:
        """For each unit the indices of the units that it reads from, sorted."""
        return tuple(tuple(sorted({self.unit_of[i] for i in read if i in self.unit_of})) for read in self.unit_inputs)

    # -- variants ------------------------------------------------------------------------------------------------

    def bind(self, *, batch: int | None = None, dtype: str | None = None) -> Graph:
        """The same network for another batch size or dtype.

        Raises:
            UsageError: a batch or dtype that cannot be.
        """
        batch = self.batch if batch is None else batch
        dtype = self.dtype if dtype is None else dtype
        if type(batch) is int and (batch, dtype) == (self.batch, self.dtype):
            return self
        return Graph(self.name, self.inputs, self.operators, self.outputs, units=self.units, batch=batch, dtype=dtype)

    # -- JSON ----------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, object]:
        """A JSON document without weights; `from_json` gives an equal graph back."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "name": self.name,
            "batch": self.batch,
            "dtype": self.dtype,
            "inputs": [{"name": i.name, "shape": list(i.shape)} for i in self.inputs],
            "operators": [
                {
                    "name": o.name,
                    "kind": o.kind,
                    "inputs": list(o.inputs),
                    "attributes": {k: list(v) if isinstance(v, tuple) else v for k, v in o.attributes.items()},
                }
                for o in self.operators
            ],
            "units": [{"name": u.name, "operators": list(u.operators)} for u in self.units],
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_json(cls, document: object) -> Graph:
        """The graph of a JSON document.

        Raises:
            GraphError: the document is not a graph, or of a newer version.
        """
        parts = read_document(document)
        return cls(
            parts.name,
            parts.inputs,
            parts.operators,
            parts.outputs,
            units=parts.units,
            batch=parts.batch,
            dtype=parts.dtype,
        )

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of everything but the graph's own name."""
        document = self.to_json()
        del document["name"]
        return hashlib.sha256(canonical_json(document).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and (self.name, self.content_hash) == (other.name, other.content_hash)

    def __hash__(self) -> int:
        return hash((self.name, self.content_hash))

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self.operators)} operators, {len(self.units)} units, batch {self.batch})"

    # -- checks --------------------------------------------------------------------------------------------------

    def _infer(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for item in self.inputs:
            check_input_shape(item.shape, f"{self.name}: input {item.name!r}")
            shapes[item.name] = (self.batch, *item.shape)
            self._check_size(shapes[item.name], f"{self.name}: input {item.name!r}")
        for position, operator in enumerate(self.operators):
            where = f"{self.name}: operator {position} {operator.name!r} ({operator.kind})"
            try:
                shape = spec(operator.kind).infer(operator.attributes, [shapes[i] for i in operator.inputs])
            except GraphError as error:
                raise GraphError(error.what, where=where, hint=error.hint) from None
            shapes[operator.name] = shape
            self._check_size(shape, where)
        return shapes

    def _check_size(self, shape: Shape, where: str) -> None:
        if math.prod(shape) >= MAX_ELEMENTS:
            raise GraphError(f"a tensor of {list(shape)} is not sensible", where=where)
