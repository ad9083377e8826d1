"""Reading a stage's canonical JSON. It may come from a database or another machine: nothing is taken on trust."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from iosfarm.ir.errors import GraphError
from iosfarm.ir.graph import DTYPES, check_input_shape
from iosfarm.ir.merge import merge_of
from iosfarm.ir.operators import Attribute, Shape, spec
from iosfarm.ir.stage_units import KEY_VERSION, LAYOUTS, STAGE_STRATEGIES, StageOperator, StageUnit

Groups = tuple[tuple[StageUnit, ...], ...]


def read_stage(text: str) -> tuple[str, str, str, tuple[Shape, ...], Groups]:
    """Strategy, dtype, layout, inputs and groups, see `Stage.from_json`."""
    try:
        document = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise GraphError(f"not a stage: {type(error).__name__} {error}") from error
    if not isinstance(document, dict):
        raise GraphError("not a stage: expected an object")
    if document.get("version") != KEY_VERSION:
        raise GraphError(f"stage version {document.get('version')!r}", hint=f"this program reads {KEY_VERSION}")
    strategy = _one_of(document, "strategy", STAGE_STRATEGIES)
    dtype = _one_of(document, "dtype", tuple(DTYPES))
    layout = _one_of(document, "layout", LAYOUTS)
    reader = _Reader(_inputs(document.get("inputs")))
    groups = tuple(reader.group(group, i) for i, group in enumerate(_filled(document.get("groups"), "groups")))
    _check_merged(strategy, groups, reader.shape_of)
    return strategy, dtype, layout, reader.inputs, groups


class _Reader:
    """Reads groups in order, knowing the shape of every operator that came before."""

    def __init__(self, inputs: tuple[Shape, ...]) -> None:
        self.inputs = inputs
        self._outputs: list[Shape] = []
        self._group_inputs: list[object] = []
        self._first = 0

    def shape_of(self, reference: int) -> Shape:
        """Shape of what a reference stands for that was read before."""
        return self.inputs[-1 - reference] if reference < 0 else self._outputs[reference]

    def group(self, group: object, position: int) -> tuple[StageUnit, ...]:
        where = f"groups[{position}]"
        if not isinstance(group, dict):
            raise GraphError("not a stage: a group is an object with inputs and units", where=where)
        self._group_inputs = _filled(group.get("inputs"), f"{where}.inputs")
        self._first = len(self._outputs)
        readable: set[int] = set()  # outputs of the units before; other groups run at the same time
        units = []
        for i, unit in enumerate(_filled(group.get("units"), f"{where}.units")):
            units.append(self._unit(unit, readable, f"{where}.units[{i}]"))
            readable.add(units[-1].output)
        return tuple(units)

    def _global(self, reference: object, where: str) -> int:
        """A group counts its own operators and inputs; a stage counts all."""
        if type(reference) is int and reference >= 0:
            return self._first + reference
        if type(reference) is int and -1 - reference < len(self._group_inputs):
            number = self._group_inputs[-1 - reference]
            if type(number) is int and 0 <= number < len(self.inputs):
                return -1 - number
        raise GraphError(f"not a stage: the reference {reference!r} leads nowhere", where=where)

    def _unit(self, unit: object, readable: set[int], where: str) -> StageUnit:
        first = len(self._outputs)
        operators = []
        for item in _filled(unit, where):
            inside = {*readable, *range(first, len(self._outputs))}
            operators.append(self._operator(item, inside, where))
            self._outputs.append(operators[-1].shape)
        return StageUnit(first, tuple(operators))

    def _operator(self, item: object, readable: set[int], where: str) -> StageOperator:
        if not isinstance(item, list) or len(item) != 3:
            raise GraphError("not a stage: an operator is [kind, attributes, references]", where=where)
        kind, attributes, references = item
        if not isinstance(kind, str) or not isinstance(attributes, dict) or not isinstance(references, list):
            raise GraphError("not a stage: an operator is [kind, attributes, references]", where=where)
        references = [self._global(reference, where) for reference in references]
        shapes = [self._shape(reference, readable, where) for reference in references]
        normalised, shape = _checked(kind, attributes, tuple(shapes), where)
        return StageOperator(kind, normalised, tuple(references), shape)

    def _shape(self, reference: int, readable: set[int], where: str) -> Shape:
        if reference < 0 or reference in readable:
            return self.shape_of(reference)
        raise GraphError(f"not a stage: the reference {reference - self._first} leads nowhere", where=where)


_CHECKED: dict[tuple[str, str, tuple[Shape, ...]], tuple[Mapping[str, Attribute], Shape]] = {}
"""Operators that were read before: thousands of stages are made of a few of them."""

_MOST_CHECKED = 10_000


def _checked(
    kind: str, attributes: Mapping[str, object], shapes: tuple[Shape, ...], where: str
) -> tuple[Mapping[str, Attribute], Shape]:
    """Normalised attributes and the output's shape."""
    key = kind, repr(attributes), shapes  # not the values themselves: 1 equals True
    known = _CHECKED.get(key)
    if known is not None:
        return known
    kind_spec = spec(kind, where)
    kind_spec.check_arity(len(shapes), where)
    normalised = kind_spec.normalise(attributes, where)
    try:
        shape = kind_spec.infer(normalised, shapes)
    except GraphError as error:
        raise GraphError(error.what, where=f"{where} ({kind})", hint=error.hint) from None
    if len(_CHECKED) >= _MOST_CHECKED:
        _CHECKED.clear()
    _CHECKED[key] = normalised, shape
    return normalised, shape


def _inputs(value: object) -> tuple[Shape, ...]:
    shapes = []
    for shape in _filled(value, "inputs"):
        items = _filled(shape, "inputs")
        check_input_shape(items, "inputs")  # type: ignore[arg-type]
        shapes.append(tuple(items))
    return tuple(shapes)  # type: ignore[arg-type]


def _check_merged(strategy: str, groups: Groups, shape_of: Callable[[int], Shape]) -> None:
    if strategy == "merge":
        units = [unit for group in groups for unit in group]
        if len(units) > len(groups) or merge_of(units, shape_of) is None:
            raise GraphError("not a stage: these operators cannot be merged")
    if strategy == "mixed" and (len(groups) < 2 or all(merge_of(group, shape_of) is None for group in groups)):
        raise GraphError("not a stage: a mixed stage has several groups, one of them of units that can be merged")


def _one_of(document: dict[str, object], name: str, known: Sequence[str]) -> str:
    value = document.get(name)
    if not isinstance(value, str) or value not in known:
        raise GraphError(f"not a stage: {name} is {value!r}", hint=f"use one of {', '.join(known)}")
    return value


def _filled(value: object, where: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise GraphError("not a stage: expected a list with something in it", where=where)
    return value
