"""Units that can run beside others: without any, a schedule can win little, and whoever waits for it should know."""

from __future__ import annotations

from collections.abc import Sequence

from iosfarm.search.parts import Part

LITTLE = 0.35
"""Share of a network's arithmetic in units that have company, below which there is little to win."""


def units_beside(predecessors: Sequence[int]) -> list[int]:
    """Units with another one that neither comes before nor after. predecessors: bit sets, in topological order."""
    count = len(predecessors)
    before: list[int] = []
    for direct in predecessors:
        reached = direct
        for unit, earlier in enumerate(before):
            if direct >> unit & 1:
                reached |= earlier
        before.append(reached)
    after = [0] * count
    for unit, earlier in enumerate(before):
        for other in range(unit):
            if earlier >> other & 1:
                after[other] |= 1 << unit
    every = (1 << count) - 1
    return [unit for unit in range(count) if before[unit] | after[unit] | 1 << unit != every]


def little_to_win(parts: Sequence[Part]) -> str:
    """What to say of a network most of which has to run one unit after the other; empty where that is not so."""
    flops = beside = 0
    units = company = 0
    for part in parts:
        found = units_beside(part.predecessors())
        work = [
            sum(part.graph.flops(part.graph.operator(name)) for name in part.graph.units[unit].operators)
            for unit in part.units
        ]
        flops, beside = flops + sum(work), beside + sum(work[unit] for unit in found)
        units, company = units + len(work), company + len(found)
    if not company:
        return "no unit of this network can run beside another one: barriers between units are all that can be saved"
    if beside < LITTLE * flops:
        share = f"{beside / flops:.0%} of the arithmetic"
        return f"little to win: {company} of {units} units, with {share}, can run beside another one"
    return ""
