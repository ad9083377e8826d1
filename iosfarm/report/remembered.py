"""What only the latency database knows of a schedule: samples of its stages, and what the alternatives cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from iosfarm.db import LatencyDatabase, Recorded
from iosfarm.farm.schedules.explaining import explain_all
from iosfarm.farm.schedules.explanation import Row
from iosfarm.ir.device import Device, Environment
from iosfarm.report.contents import Alternatives, Choice, Cost
from iosfarm.report.sources import Source
from iosfarm.search.alternatives import Cost as Found

MOST = 5
"""Alternatives to a stage that are told."""


def measurements(source: Source, database: LatencyDatabase) -> Mapping[str, Recorded]:
    """The measurements of a schedule's stages on its device that have samples, by stage key."""
    device = source.content.device
    found = database.lookup(
        [stage.key for stage in source.content.stages],
        Device(device.kind, device.model, device.properties),
        Environment(device.environment, device.environment_soft),
    )
    return {key: recorded for key, recorded in found.items() if recorded.measurement.ok}


def alternatives(source: Source, database: LatencyDatabase) -> Sequence[Alternatives]:
    """To each stage of a schedule.

    Raises:
        SpaceTooLargeError. DatabaseError.
    """
    index = {unit.name: number for number, unit in enumerate(source.graph.units)}
    return [
        Alternatives(
            found.others,
            found.measured,
            found.infeasible,
            _cost(found.chosen.whole),
            (
                *(_choice(row, index, simpler=False) for row in found.best),
                *(_choice(row, index, simpler=True) for row in found.simpler),
            ),
            found.notes,
        )
        for found in explain_all(source.content, source.graph, database, most=MOST)
    ]


def _choice(row: Row, index: Mapping[str, int], *, simpler: bool) -> Choice:
    return Choice(
        tuple(stage.strategy for stage in row.stages),
        tuple(tuple(tuple(index[name] for name in group) for group in stage.groups) for stage in row.stages),
        _cost(row.own),
        _cost(row.whole),
        row.own.known is not None and math.isinf(row.own.known),
        row.samples,
        row.expected,
        simpler,
        row.why,
    )


def _cost(cost: Found) -> Cost:
    """Bounds that no measurement stands behind are None too."""
    known = cost.known if cost.known is not None and math.isfinite(cost.known) else None
    return Cost(known, cost.at_least if 0 < cost.at_least < math.inf else None, cost.statistical)
