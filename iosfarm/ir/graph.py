"""`Graph`: an immutable network of operators, shape-inferred, divided into the units that a schedule places."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from iosfarm.ir.device import canonical_json
from iosfarm.ir.errors import GraphError, UsageError
from iosfarm.ir.operators import Attribute, Shape, spec

FORMAT_VERSION = 1
DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Supported dtypes and their bytes an element."""

MAX_BATCH = 65536


@dataclass(frozen=True)
class Operator:
    """One node. `inputs` name operators or graph inputs; the output is named like the operator."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphInput:
    """A tensor that the user feeds: shape without the batch, e.g. (3, 299, 299)."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Unit:
    """What the scheduler places: operators that always run together, in order. The last one is its output."""

    name: str
    operators: tuple[str, ...]


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
        if not isinstance(batch, int) or not 1 <= batch <= MAX_BATCH:
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
        self.operators = _sorted(name, self.inputs, operators)
        self._by_name = {operator.name: operator for operator in self.operators}
        self.shapes: Mapping[str, Shape] = self._infer()
        for output in self.outputs:
            if output not in self.shapes:
                raise GraphError(f"the output {output!r} is not in the graph", where=name)
        if units is None:
            units = [Unit(operator.name, (operator.name,)) for operator in self.operators]
        self.units = self._check_units(units)

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
        if (batch, dtype) == (self.batch, self.dtype):
            return self
        return Graph(self.name, self.inputs, self.operators, self.outputs, units=self.units, batch=batch, dtype=dtype)

    # -- JSON ----------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, object]:
        """A JSON document without weights; `from_json` gives an equal graph back."""
        return {
            "format": "iosfarm-graph",
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
        if not isinstance(document, dict) or document.get("format") != "iosfarm-graph":
            raise GraphError("not a graph document", hint='expected an object with "format": "iosfarm-graph"')
        if document.get("version") != FORMAT_VERSION:
            raise GraphError(
                f"graph format version {document.get('version')!r}",
                hint=f"this program reads version {FORMAT_VERSION}",
            )
        try:
            return cls(
                str(document["name"]),
                [GraphInput(i["name"], tuple(i["shape"])) for i in document["inputs"]],
                [Operator(o["name"], o["kind"], tuple(o["inputs"]), o["attributes"]) for o in document["operators"]],
                document["outputs"],
                units=[Unit(u["name"], tuple(u["operators"])) for u in document["units"]],
                batch=document["batch"],
                dtype=document["dtype"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise GraphError(f"malformed graph document: {type(error).__name__} {error}") from error

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
            if not item.shape or min(item.shape) < 1:
                raise GraphError(f"the input {item.name!r} has the shape {list(item.shape)}", where=self.name)
            shapes[item.name] = (self.batch, *item.shape)
        for position, operator in enumerate(self.operators):
            where = f"{self.name}: operator {position} {operator.name!r} ({operator.kind})"
            try:
                shape = spec(operator.kind).infer(operator.attributes, [shapes[i] for i in operator.inputs])
            except GraphError as error:
                raise GraphError(error.what, where=where, hint=error.hint) from None
            shapes[operator.name] = shape
            if math.prod(shape) >= 2**40:
                raise GraphError(f"an output of {math.prod(shape)} elements is not sensible", where=where)
        return shapes

    def _check_units(self, units: Sequence[Unit]) -> tuple[Unit, ...]:
        placed = Counter(name for unit in units for name in unit.operators)
        missing = [o.name for o in self.operators if placed[o.name] != 1]
        extra = [name for name in placed if name not in self._by_name]
        if missing or extra:
            raise GraphError(f"units must hold every operator once: see {(missing + extra)[0]!r}", where=self.name)
        names = Counter(unit.name for unit in units)
        repeated = [name for name, count in names.items() if count > 1]
        if repeated:
            raise GraphError(f"two units are named {repeated[0]!r}", where=self.name)
        position = {operator.name: index for index, operator in enumerate(self.operators)}
        owner = {name: unit.name for unit in units for name in unit.operators}
        inner = {name for unit in units for name in unit.operators[:-1]}
        for operator in self.operators:
            for i in operator.inputs:
                if i in inner and owner[i] != owner[operator.name]:
                    raise GraphError(
                        f"{i!r} is inside the unit {owner[i]!r} and read by {operator.name!r}",
                        where=self.name,
                    )
        for output in self.outputs:
            if output in inner:
                raise GraphError(f"the output {output!r} is inside the unit {owner[output]!r}", where=self.name)
        for unit in units:
            if [position[n] for n in unit.operators] != sorted(position[n] for n in unit.operators):
                raise GraphError(f"the operators of unit {unit.name!r} are out of order", where=self.name)
        return _units_in_order(self, units, owner)


def _units_in_order(graph: Graph, units: Sequence[Unit], owner: Mapping[str, str]) -> tuple[Unit, ...]:
    """Units sorted topologically; contracting units of an acyclic graph can make a cycle, which is refused."""
    by_name = {unit.name: unit for unit in units}
    before: dict[str, list[str]] = {unit.name: [] for unit in units}
    for operator in graph.operators:
        for i in operator.inputs:
            if i in owner and owner[i] != owner[operator.name]:
                before[owner[operator.name]].append(owner[i])
    first_seen = list(dict.fromkeys(owner[operator.name] for operator in graph.operators))
    order = _topological(first_seen, before)
    if len(order) < len(units):
        stuck = next(name for name in first_seen if name not in set(order))
        raise GraphError(f"units depend on each other in a cycle, see {stuck!r}", where=graph.name)
    return tuple(by_name[name] for name in order)


def _sorted(graph: str, inputs: Sequence[GraphInput], operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Operators with normalised attributes, sorted topologically and stably."""
    names = Counter([*(i.name for i in inputs), *(o.name for o in operators)])
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise GraphError(f"two tensors are named {repeated[0]!r}", where=graph)
    checked: dict[str, Operator] = {}
    fed = {i.name for i in inputs}
    for position, operator in enumerate(operators):
        where = f"{graph}: operator {position} {operator.name!r}"
        kind = spec(operator.kind, where)
        least, most = kind.arity
        if len(operator.inputs) < least or (most is not None and len(operator.inputs) > most):
            expected = str(least) if least == most else f"at least {least}"
            raise GraphError(f"{operator.kind} takes {expected} input(s), got {len(operator.inputs)}", where=where)
        for name in operator.inputs:
            if name not in names:
                raise GraphError(f"reads {name!r}, which does not exist", where=where)
        attributes = kind.normalise(operator.attributes, where)
        checked[operator.name] = Operator(operator.name, operator.kind, tuple(operator.inputs), attributes)
    order = _topological(list(checked), {o.name: [i for i in o.inputs if i not in fed] for o in checked.values()})
    if len(order) < len(checked):
        stuck = next(name for name in checked if name not in set(order))
        raise GraphError(f"the graph has a cycle, see {stuck!r}", where=graph)
    return tuple(checked[name] for name in order)


def _topological(names: Sequence[str], before: Mapping[str, Iterable[str]]) -> list[str]:
    """Kahn's algorithm, stable in the order of `names`; shorter than `names` where there is a cycle."""
    index = {name: i for i, name in enumerate(names)}
    waiting = {name: len(set(before[name])) for name in names}
    after: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for earlier in set(before[name]):
            after[earlier].append(name)
    ready = [index[name] for name in names if not waiting[name]]
    heapq.heapify(ready)
    order = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for later in after[name]:
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, index[later])
    return order
