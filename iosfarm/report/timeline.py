"""A schedule over time beside the sequential one: when each stage and, inside of it, each unit runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iosfarm.farm.schedules.drawing import unit_weight
from iosfarm.farm.schedules.schedule_format import ScheduleFile, StageEntry
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import mergeable
from iosfarm.report.contents import Box


@dataclass(frozen=True)
class Timeline:
    """By stage: begin, seconds, boxes. alone: of each unit of the graph, in order, in the same measure; share: what
    each of them takes of its stage. timed: that measure is seconds; weighed: `alone` was measured, not estimated.
    """

    begins: tuple[float, ...]
    seconds: tuple[float, ...]
    boxes: tuple[tuple[Box, ...], ...]
    alone: tuple[float, ...]
    share: tuple[float, ...]
    stage_of: tuple[int, ...]
    timed: bool
    weighed: bool


def timeline(content: ScheduleFile, graph: Graph) -> Timeline:
    """Stages as long as their predicted latencies; where one is unknown, all as long as each other.

    When a group's units run inside a stage was not measured: they share its time as their own latencies are, or, in
    files that do not hold these, as floating-point operations and bytes would have it.
    """
    timed = all(stage.predicted for stage in content.stages)
    names = [unit.name for unit in graph.units]
    weighed = timed and content.alone.keys() >= set(names)
    weights = [content.alone[name] if weighed else unit_weight(graph, name) for name in names]
    index = {name: number for number, name in enumerate(names)}
    begins, lengths, boxes = [], [], []
    share, stage_of = [0.0] * len(names), [0] * len(names)
    begin = 0.0
    for number, stage in enumerate(content.stages):
        length = stage.predicted if timed and stage.predicted else 1.0
        rows = _rows(graph, stage, index)
        members = [unit for units, _ in rows for unit in units]
        total = math.fsum(weights[unit] for unit in members) or 1.0
        for unit in members:
            share[unit], stage_of[unit] = length * weights[unit] / total, number
        begins.append(begin)
        lengths.append(length)
        boxes.append(tuple(_boxes(rows, weights, length)))
        begin += length
    if not weighed:
        alone = _sequential(content, timed)
        scale = (begin if alone is None else alone) / (math.fsum(weights) or 1.0)
        weights = [weight * scale for weight in weights]
    return Timeline(
        tuple(begins), tuple(lengths), tuple(boxes), tuple(weights), tuple(share), tuple(stage_of), timed, weighed
    )


def _sequential(content: ScheduleFile, timed: bool) -> float | None:
    entry = content.latencies.get("sequential")
    return entry.predicted or entry.measured if entry is not None and timed else None


def _rows(graph: Graph, stage: StageEntry, index: dict[str, int]) -> list[tuple[list[int], bool]]:
    """Units of each stream, and whether they are merged into one convolution."""
    groups = [[index[name] for name in group] for group in stage.groups]
    if stage.strategy == "merge":
        return [([unit for group in groups for unit in group], True)]
    return [(group, stage.strategy == "mixed" and mergeable(graph, group)) for group in groups]


def _boxes(rows: Sequence[tuple[list[int], bool]], weights: Sequence[float], length: float) -> list[Box]:
    longest = max(math.fsum(weights[unit] for unit in units) for units, _ in rows) or 1.0
    boxes = []
    for row, (units, merged) in enumerate(rows):
        begin = 0.0
        for together in [units] if merged else [[unit] for unit in units]:
            seconds = length * math.fsum(weights[unit] for unit in together) / longest
            boxes.append(Box(row, tuple(together), begin, seconds, merged))
            begin += seconds
    return boxes
