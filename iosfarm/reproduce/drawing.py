"""Schedules as data that a plot can draw: stages, groups, units, and how long each stage takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import ScheduledStage


def drawable(graph: Graph, label: str, stages: Sequence[ScheduledStage], seconds: Sequence[float]) -> dict[str, Any]:
    """JSON: label and stages; of each stage its strategy, its seconds, and its groups of units with their kinds and
    work (FLOP).
    """
    units = {unit.name: unit for unit in graph.units}

    def box(name: str) -> dict[str, Any]:
        operators = [graph.operator(operator) for operator in units[name].operators]
        work = sum(graph.flops(operator) for operator in operators)
        return {"name": name, "what": what(graph, name), "work": work}

    return {
        "label": label,
        "stages": [
            {
                "strategy": stage.strategy,
                "seconds": time,
                "groups": [[box(name) for name in group] for group in stage.groups],
            }
            for stage, time in zip(stages, seconds, strict=True)
        ],
    }


def what(graph: Graph, unit_name: str) -> str:
    """A unit in a few characters: `conv 3x3, 384`, `avg pool`, `concat`."""
    unit = next(unit for unit in graph.units if unit.name == unit_name)
    parts = []
    for name in unit.operators:
        operator = graph.operator(name)
        if operator.kind == "conv2d":
            kernel = operator.attributes["kernel"]
            size = f"{kernel[0]}x{kernel[1]}" if isinstance(kernel, tuple | list) else f"{kernel}x{kernel}"
            parts.append(f"conv {size}, {operator.attributes['out_channels']}")
        else:
            parts.append(operator.kind.replace("_", " "))
    return " + ".join(parts)
