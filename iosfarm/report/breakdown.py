"""Where the time goes: by kind of unit and by part, under the sequential and under the chosen schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.graph import Graph, Unit
from iosfarm.report.contents import Share
from iosfarm.report.timeline import Timeline

MOST_KINDS = 12
"""Kinds that have a row of their own; the others share one."""


def kind_of(graph: Graph, unit: Unit) -> str:
    """A unit's operators without their sizes: `relu → conv2d 3x3 depthwise → conv2d 1x1`."""
    words = []
    for name in unit.operators:
        operator = graph.operator(name)
        kernel, groups = (operator.attributes.get(key) for key in ("kernel", "groups"))
        size = f" {kernel[0]}x{kernel[1]}" if isinstance(kernel, tuple) else ""
        alike = isinstance(groups, int) and groups > 1
        depthwise = alike and groups == graph.input_shapes(operator)[0][1]
        words.append(f"{operator.kind}{size}{' depthwise' if depthwise else ' grouped' if alike else ''}")
    return " → ".join(words)


def by_kind(graph: Graph, line: Timeline) -> tuple[Share, ...]:
    """The kinds that take the most of the sequential schedule, the longest first."""
    shares = _shares(line, len(graph.units), lambda unit: kind_of(graph, graph.units[unit]), str)
    shares.sort(key=lambda share: -share.sequential)
    if len(shares) <= MOST_KINDS:
        return tuple(shares)
    kept, rest = shares[: MOST_KINDS - 1], shares[MOST_KINDS - 1 :]
    units, before, after = (sum(getattr(s, name) for s in rest) for name in ("units", "sequential", "chosen"))
    return (*kept, Share(f"{len(rest)} other kinds", int(units), before, after))


def by_part(content: ScheduleFile, line: Timeline) -> tuple[Share, ...]:
    """Parts in their order; a unit belongs to the part of its stage."""
    part = [content.stages[stage].part for stage in line.stage_of]
    shares = _shares(line, len(part), part.__getitem__, lambda number: f"part {number}")
    return tuple(sorted(shares, key=lambda share: int(share.name.removeprefix("part "))))


def _shares(
    line: Timeline, count: int, key_of: Callable[[int], Hashable], name_of: Callable[[Hashable], str]
) -> list[Share]:
    members: dict[Hashable, list[int]] = {}
    for unit in range(count):
        members.setdefault(key_of(unit), []).append(unit)
    return [
        Share(
            name_of(key), len(units), math.fsum(line.alone[u] for u in units), math.fsum(line.share[u] for u in units)
        )
        for key, units in members.items()
    ]
