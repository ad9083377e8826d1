"""Operators and units in topological order, checked on the way."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from iosfarm.ir.errors import GraphError
from iosfarm.ir.nodes import GraphInput, Operator, Unit
from iosfarm.ir.operators import spec


def sorted_operators(graph: str, inputs: Sequence[GraphInput], operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Operators with normalised attributes, sorted topologically and stably; `graph` is a name for errors.

    Raises:
        GraphError: two tensors of one name, an unknown operator, wrong inputs or attributes, a cycle.
    """
    names = Counter([*(i.name for i in inputs), *(o.name for o in operators)])
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise GraphError(f"two tensors are named {repeated[0]!r}", where=graph)
    checked: dict[str, Operator] = {}
    fed = {i.name for i in inputs}
    for position, operator in enumerate(operators):
        where = f"{graph}: operator {position} {operator.name!r}"
        kind = spec(operator.kind, where)
        kind.check_arity(len(operator.inputs), where)
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


def sorted_units(
    graph: str, operators: Sequence[Operator], outputs: Sequence[str], units: Sequence[Unit]
) -> tuple[Unit, ...]:
    """Units sorted topologically and stably, for operators that are; `graph` is a name for errors.

    Raises:
        GraphError: units are no partition, an inner result is read from outside, operators are out of order, or
            units depend on each other in a cycle, which contracting an acyclic graph can make.
    """
    _check_partition(graph, operators, units)
    owner = {name: unit.name for unit in units for name in unit.operators}
    inner = {name for unit in units for name in unit.operators[:-1]}
    for output in outputs:
        if output in inner:
            raise GraphError(f"the output {output!r} is inside the unit {owner[output]!r}", where=graph)
    place = {name: position for unit in units for position, name in enumerate(unit.operators)}
    before: dict[str, list[str]] = {unit.name: [] for unit in units}
    for operator in operators:
        unit = owner[operator.name]
        for i in operator.inputs:
            source = owner.get(i)
            if source == unit:
                if place[i] > place[operator.name]:
                    raise GraphError(f"the operators of unit {unit!r} are out of order, see {i!r}", where=graph)
            elif i in inner:
                raise GraphError(f"{i!r} is inside the unit {source!r} and read by {operator.name!r}", where=graph)
            elif source is not None:
                before[unit].append(source)
    first_seen = list(dict.fromkeys(owner[operator.name] for operator in operators))
    order = _topological(first_seen, before)
    if len(order) < len(units):
        stuck = next(name for name in first_seen if name not in set(order))
        raise GraphError(f"units depend on each other in a cycle, see {stuck!r}", where=graph)
    by_name = {unit.name: unit for unit in units}
    return tuple(by_name[name] for name in order)


def _check_partition(graph: str, operators: Sequence[Operator], units: Sequence[Unit]) -> None:
    for unit in units:
        if not unit.operators:
            raise GraphError(f"the unit {unit.name!r} is empty", where=graph)
    placed = Counter(name for unit in units for name in unit.operators)
    known = {operator.name for operator in operators}
    wrong = [o.name for o in operators if placed[o.name] != 1] + [name for name in placed if name not in known]
    if wrong:
        raise GraphError(f"units must hold every operator once: see {wrong[0]!r}", where=graph)
    repeated = [name for name, count in Counter(unit.name for unit in units).items() if count > 1]
    if repeated:
        raise GraphError(f"two units are named {repeated[0]!r}", where=graph)


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
