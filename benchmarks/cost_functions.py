"""Made-up devices for the benchmark of the search: latencies of all stages of a network, by class.

`v100` is the simulated GPU without its noise. The others are roofline models that share one device between groups in
their own ways: `early` is full with hardly more than one unit, `late` with about three, `never` at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iosfarm.ir.stage import Stage
from iosfarm.kernels.sim.devices import device
from iosfarm.kernels.sim.model import StageModel
from iosfarm.search.bounds import Kind
from iosfarm.search.stage_search import StageSearch

Floats = NDArray[np.float64]

CAPACITY = {"early": 1.15, "late": 3.0, "never": np.inf}
"""Units at full speed that a device holds."""

COSTS = ("v100", *CAPACITY)


def latencies(name: str, search: StageSearch) -> Floats:
    """Seconds of each class, without noise."""
    if name == "v100":
        model = StageModel(device("v100"))
        texts = (search.factory.canonical_of(number) for number in range(search.class_count))
        return np.array([model.seconds(Stage.from_json(text)) for text in texts])
    result = np.empty(search.class_count)
    for part in search.parts.values():
        result[part.problem.classes] = _part(CAPACITY[name], search, part.problem.part.units, part.problem)
    return result


def _part(capacity: float, search: StageSearch, units: tuple[int, ...], problem: object) -> Floats:
    from iosfarm.search.problem import PartProblem

    assert isinstance(problem, PartProblem)
    factory, space = search.factory, problem.space
    work = np.array([factory.unit_flops[u] / 8e12 + factory.unit_bytes[u] / 6e11 for u in units])
    alone = 4e-6 + work
    members = [list(space.group_units(g)) for g in range(len(space.group_words))]
    group = np.array([alone[m].sum() - 2e-6 * (len(m) - 1) for m in members])
    groups, starts = space.stage_groups, space.stage_groups_offsets[:-1]
    longest = np.maximum.reduceat(group[groups], starts)
    total = np.add.reduceat(group[groups], starts)
    count = np.diff(space.stage_groups_offsets)
    seconds = 4e-6 + 2e-6 * (count - 1) + np.maximum(longest, total / capacity)
    kinds = search.parts[id(problem)].kinds
    return np.where(kinds == Kind.MERGE, 4e-6 + 0.8 * total, seconds)
