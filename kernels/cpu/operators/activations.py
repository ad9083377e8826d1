"""Activations of their own that become a part of the operator before them: one pass over the memory less."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from iosfarm.ir.operators import FUSED_ACTIVATIONS
from iosfarm.ir.stage_units import StageOperator, StageUnit


@dataclass(frozen=True)
class Executed:
    """An operator as it is executed. number: of the one in the stage that has its weights; result: of the one whose
    result it makes, the same or the activation after it.
    """

    operator: StageOperator
    number: int
    result: int


def with_activations(unit: StageUnit) -> list[Executed]:
    """A unit's operators, in order. An activation joins the operator before it, where that has none yet and nothing
    else reads it: in a unit nothing outside does.
    """
    reads = Counter(reference for operator in unit.operators for reference in operator.references)
    executed: list[Executed] = []
    made: dict[int, int] = {}
    for number, operator in enumerate(unit.operators, unit.first):
        source = operator.references[0]
        place = made.get(source)
        if operator.kind in FUSED_ACTIVATIONS and place is not None and reads[source] == 1:
            before = executed[place]
            if before.operator.attributes.get("activation") == "none":
                attributes = {**before.operator.attributes, "activation": operator.kind}
                executed[place] = replace(
                    before, operator=replace(before.operator, attributes=attributes), result=number
                )
                made[number] = place
                continue
        made[number] = len(executed)
        executed.append(Executed(operator, number, number))
    return executed
