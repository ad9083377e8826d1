"""The summary of a stage from its canonical text, fast: thousands of stages are put together from a few groups."""

from __future__ import annotations

import json
from dataclasses import dataclass

from iosfarm.ir.operators import Shape
from iosfarm.ir.stage import KEY_VERSION, Stage
from iosfarm.ir.summary import OperatorSummary, StageSummary

_MOST = 50_000


@dataclass(frozen=True)
class _Group:
    units: int
    flops: int
    bytes_moved: int
    operators: tuple[OperatorSummary, ...]


_GROUPS: dict[tuple[str, tuple[Shape, ...], str], _Group] = {}
"""Groups that were seen before, by their text, the shapes of what they read, and their dtype."""


def summarise(key: str, text: str) -> StageSummary:
    """`Stage.from_json(text).summary`, of a stage whose key is known.

    Raises:
        GraphError: the text is not a stage; told only where a group was not seen before.
    """
    document = json.loads(text)
    dtype = document["dtype"]
    inputs = [tuple(shape) for shape in document["inputs"]]
    texts = [
        (repr(group["units"]), tuple([inputs[number] for number in group["inputs"]]), dtype)
        for group in document["groups"]
    ]
    if any(text not in _GROUPS for text in texts):
        if len(_GROUPS) > _MOST:
            _GROUPS.clear()
        _GROUPS.update(zip(texts, _groups(text), strict=True))
    groups = [_GROUPS[text] for text in texts]
    return StageSummary(
        key=key,
        key_version=KEY_VERSION,
        canonical=text,
        strategy=document["strategy"],
        dtype=dtype,
        layout=document["layout"],
        batch=inputs[0][0],
        groups=len(groups),
        units=sum([group.units for group in groups]),
        flops=sum([group.flops for group in groups]),
        bytes_moved=sum([group.bytes_moved for group in groups]),
        operators=tuple([operator for group in groups for operator in group.operators]),
    )


def _groups(text: str) -> list[_Group]:
    stage = Stage.from_json(text)
    summaries = iter(stage.summary.operators)
    found = []
    for units in stage.groups:
        operators = [operator for unit in units for operator in unit.operators]
        flops, moved = (sum(map(count, operators)) for count in (stage.flops, stage.bytes_moved))
        found.append(_Group(len(units), flops, moved, tuple([next(summaries) for _ in operators])))
    return found
