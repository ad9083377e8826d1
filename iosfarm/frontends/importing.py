"""From a program to what an import gives: rules, opaque operators, simplification, units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iosfarm.frontends.decomposing import decomposed
from iosfarm.frontends.errors import CannotImport, NoCounterpart
from iosfarm.frontends.imported import Imported, Opaque, Signature
from iosfarm.frontends.lowering import Constant, Deferred, Lowering, Result, Value
from iosfarm.frontends.opaque import OpaqueWriter
from iosfarm.frontends.patterns import recognised
from iosfarm.frontends.program import Node, Program, Ref, TensorType, replaced
from iosfarm.frontends.rules import RULES, Call
from iosfarm.frontends.rules.registry import operator
from iosfarm.frontends.units import form_units
from iosfarm.ir.errors import GraphError
from iosfarm.ir.graph import Graph, Operator
from iosfarm.ir.simplify import simplify
from iosfarm.kernels.opaque import is_random
from iosfarm.kernels.runtime import Weights

_MOST_ELEMENTS = 1 << 31
"""Of a constant that is computed: 8 GiB in float32."""


def import_program(program: Program, *, strict: bool, signature: Signature | None = None) -> Imported:
    """The graph of a program, and its weights.

    Raises:
        CannotImport: something in it cannot be; with `strict`, an operator without a counterpart is such a thing.
    """
    recognised(program)
    importer = _Importer(program, strict)
    for node in program.nodes:
        importer.node(node)
    try:
        outputs, places = importer.outputs()
    except NoCounterpart as error:
        raise CannotImport(f"an output cannot be one of a graph: {error}", where=program.name) from None
    graph, weights = simplify(*importer.graph(outputs))
    graph = form_units(graph)
    names = {operator.name for operator in graph.operators}
    opaque = tuple(item for item in importer.opaque if item.name in names)
    notices = [*program.notices, *(f"{item} has no counterpart and runs whole, through torch" for item in opaque)]
    unread = [i.name for i in graph.inputs if all(i.name not in o.inputs for o in graph.operators)]
    notices += [f"the input {name!r} is not used" for name in unread if name not in graph.outputs]
    signature = signature or Signature(tuple(range(len(program.inputs))), ())
    signature = replace(signature, outputs=places, dtypes=importer.dtypes)
    notices += _numbers(program, weights)
    return Imported(graph, weights, opaque, tuple(dict.fromkeys(notices)), signature)


def _numbers(program: Program, weights: Weights) -> list[str]:
    """What to tell of dtypes, and of weights that are no numbers."""
    floats = [str(dtype).removeprefix("torch.") for dtype in program.precisions()]
    notices = [] if set(floats) == {"float32"} else [
        f"it computes in {' and '.join(floats)}; the graph computes in the one dtype that it is bound to (else float32)"
    ]  # fmt: skip
    missing = [name for name, values in weights.items() if np.isnan(values).any()]
    return notices + [f"the weight {name} has NaN in it, and {len(missing) - 1} more" for name in missing[:1]]


class _Importer:
    def __init__(self, program: Program, strict: bool) -> None:
        self.program = program
        self.strict = strict
        self.lowering = Lowering(program)
        self._writer = OpaqueWriter(self.lowering)
        self.dtypes: tuple[torch.dtype | None, ...] = ()
        for name, tensor in program.constants.items():
            self.lowering.values[Ref(name)] = Constant(tensor)

    @property
    def opaque(self) -> Sequence[Opaque]:
        return self._writer.written

    def node(self, node: Node) -> None:
        """Fold it, say it in our operators, or keep it whole."""
        lowering = self.lowering
        found = [lowering.values.get(ref) for ref in node.refs()]
        if all(isinstance(value, Constant) for value in found) and self._folded(node):
            return
        if node.kind in RULES:
            self._materialise(node)
        reason = ""
        for attempt in (self._by_rule, self._by_decomposition):
            restore = lowering.save()
            try:
                self._bind(node, attempt(node))
                return
            except NoCounterpart as error:
                restore()
                reason = reason or str(error)
        if self.strict:
            kind = node.kind.rsplit(".", 1)[0]
            raise lowering.fail(node, f"{kind} has no counterpart: {reason}", "leave out strict to keep it whole")
        self._writer.defer(node)

    def _materialise(self, node: Node) -> None:
        """What it reads of operators that are kept whole becomes tensors of the graph."""
        for ref in node.refs():
            found = self.lowering.values.get(ref)
            if isinstance(found, Deferred) and found.type.dtype.is_floating_point:
                self._writer.value(ref)

    def _bind(self, node: Node, result: Result) -> None:
        values = self.lowering.values
        if isinstance(result, (Value, Constant, Deferred)):
            values[Ref(node.name)] = result
            return
        for item, value in enumerate(result):
            values[Ref(node.name, item)] = value

    def _by_rule(self, node: Node) -> Result:
        rule = RULES.get(node.kind)
        if rule is None:
            raise NoCounterpart("we have no such operator")
        self._check_dtype(node)
        self.lowering.label(node.label)
        return rule(Call(self.lowering, node))

    def _check_dtype(self, node: Node) -> None:
        types = [node.types] if isinstance(node.types, TensorType) else node.types
        if types and types[0] is not None and not types[0].dtype.is_floating_point:
            raise NoCounterpart(f"a result of {str(types[0].dtype).removeprefix('torch.')}")

    # -- decompositions ------------------------------------------------------------------------------------------

    def _by_decomposition(self, node: Node) -> Result:
        """What torch itself makes of an operator, if all of that can be said."""
        parts, result = decomposed(self.lowering, node)
        for part in parts:
            found = [self.lowering.values.get(ref) for ref in part.refs()]
            if all(isinstance(value, Constant) for value in found) and self._folded(part):
                continue
            self._bind(part, self._by_rule(part))
        if isinstance(result, Ref):
            return self.lowering.value(result)
        return [self.lowering.value(ref) if isinstance(ref, Ref) else None for ref in result]

    # -- constants -----------------------------------------------------------------------------------------------

    def _folded(self, node: Node) -> bool:
        """Compute what depends on constants only. Where the batch takes part, for a batch of 1."""
        batch, exact = self.program.batch, self.program.exact
        batched = False

        def plain(value: Any) -> Any:
            nonlocal batched
            if isinstance(value, Ref):
                constant = self.lowering.values[value]
                assert isinstance(constant, Constant)
                batched |= constant.batched
                return constant.tensor
            if exact and type(value) is int and value and value % batch == 0:
                batched = True
                return value // batch
            return value

        types = [node.types] if isinstance(node.types, TensorType) else node.types
        if torch.Tag.nondeterministic_seeded in operator(node.kind).tags and is_random(
            operator(node.kind), node.arguments, node.keywords
        ):
            raise self.lowering.fail(node, f"{node.kind} is random", "a network has to compute the same every time")
        if sum(math.prod(kind.shape) for kind in types if kind) > _MOST_ELEMENTS:
            raise self.lowering.fail(node, f"{node.kind} makes a constant that is too large")
        arguments = replaced(node.arguments, plain)
        keywords = {k: replaced(v, plain) for k, v in node.keywords.items() if k != "device"}
        # The batch has to be in front, where a constant can be repeated along it.
        if batched and any(kind and (kind.shape[:1] != (batch,)) for kind in types):
            return False
        try:
            with torch.no_grad():
                result = operator(node.kind)(*arguments, **keywords)
                if batched and not self._repeats(node, result):
                    return False
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise self.lowering.fail(node, f"{node.kind} fails on its constants: {_line(error)}") from None
        if isinstance(result, Tensor):
            self.lowering.values[Ref(node.name)] = Constant(result, batched)
            return True
        for item, tensor in enumerate(result):
            self.lowering.values[Ref(node.name, item)] = Constant(tensor, batched)
        return True

    def _repeats(self, node: Node, single: Any) -> bool:
        """Whether constants of the batch's size are the same for each item: those for a batch of 2 show it."""
        batch = self.program.batch

        def doubled(value: Any) -> Any:
            if isinstance(value, Ref):
                constant = self.lowering.values[value]
                assert isinstance(constant, Constant)
                return torch.cat([constant.tensor] * 2) if constant.batched else constant.tensor
            return value // batch * 2 if self.program.exact and type(value) is int and value % batch == 0 else value

        keywords = {k: replaced(v, doubled) for k, v in node.keywords.items() if k != "device"}
        double = operator(node.kind)(*replaced(node.arguments, doubled), **keywords)
        if isinstance(single, Tensor):
            single, double = [single], [double]
        return all(torch.equal(torch.cat([one, one]), two) for one, two in zip(single, double, strict=True))

    # -- the end -------------------------------------------------------------------------------------------------

    def outputs(self) -> tuple[list[str], tuple[int | tuple[Any], ...]]:
        """Names of the graph's outputs, and for each result of the program its place among them or its value."""
        names: list[str] = []
        places: list[int | tuple[Any]] = []
        for result in self.program.outputs:
            if not isinstance(result, Ref):
                batch = self.program.batch
                count = type(result) is int and self.program.exact and result % batch == 0 and result
                if count:
                    self.program.notices.append(f"an output is the batch size, and stays {count // batch}")
                places.append((result // batch,) if count else (result,))
                continue
            name = self._output(result).name
            if name not in names:
                names.append(name)
            places.append(names.index(name))
        self.dtypes = tuple(self._dtype(result) for result in self.program.outputs)
        if not names:
            raise CannotImport("the network has no output that depends on its inputs", where=self.program.name)
        return names, tuple(places)

    def _dtype(self, result: Any) -> torch.dtype | None:
        """Of a result, where it is not that of the first input."""
        if not isinstance(result, Ref):
            return None
        kinds = {node.name: node.types for node in self.program.nodes} | dict(self.program.inputs)
        found = kinds.get(result.name)
        kind = found[result.item or 0] if isinstance(found, list) else found
        first = next(iter(self.program.inputs.values())).dtype
        if kind is None or kind.dtype == first:
            return None
        dtype = str(kind.dtype).removeprefix("torch.")
        self.program.notices.append(f"the output {result.name!r} is {dtype} and computed in the dtype of the graph")
        return kind.dtype

    def _output(self, ref: Ref) -> Value:
        found = self.lowering.value(ref)
        if isinstance(found, Value):
            return found
        self.lowering.label("output")
        if isinstance(found, Constant):
            if not found.batched:
                self.program.notices.append(
                    f"the output {ref.name!r} is constant, and is there for each item of the batch"
                )
            return self.lowering.materialised(found)
        return self._writer.value(ref)

    def graph(self, outputs: Sequence[str]) -> tuple[Graph, Weights]:
        """All that the outputs need."""
        lowering = self.lowering
        needed = set(outputs)
        kept: list[Operator] = []
        for item in reversed(lowering.operators):
            if item.name in needed:
                kept.append(item)
                needed.update(item.inputs)
        names = {item.name for item in kept}
        weights = {name: values for name, values in lowering.weights.items() if name.rsplit(".", 1)[0] in names}
        try:
            return Graph(self.program.name, lowering.inputs, kept[::-1], outputs), weights
        except GraphError as error:
            raise CannotImport(error.what, where=error.where, hint=error.hint) from None


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
