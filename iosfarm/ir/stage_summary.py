"""The summary of a stage from its canonical text, fast: thousands of stages are put together from a few groups."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from iosfarm.ir.operators import Shape
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_units import KEY_VERSION
from iosfarm.ir.summary import OperatorSummary, StageSummary

_MOST = 50_000
_OPEN, _GROUP, _CLOSE = ',"groups":[', '{"inputs":[', '],"inputs":['


@dataclass(frozen=True)
class _Group:
    units: int
    flops: int
    bytes_moved: int
    operators: tuple[OperatorSummary, ...]


_GROUPS: dict[tuple[str, tuple[Shape, ...], str], _Group] = {}
"""Groups that were seen before, by their units as text, the shapes of what they read, and their dtype."""


@dataclass(frozen=True)
class _Frame:
    """All of a stage but its groups."""

    dtype: str
    layout: str
    strategy: str
    inputs: tuple[Shape, ...]


def summarise(key: str, text: str) -> StageSummary:
    """`Stage.from_json(text).summary`, of a stage whose key is known.

    Raises:
        GraphError: the text is not a stage; told only where a group was not seen before.
    """
    # The text is cut up and not parsed, which takes three times as long. A quote inside a string is escaped, so what
    # is looked for here stands nowhere in one, and an attribute is no object with inputs.
    head, _, rest = text.partition(_OPEN)
    body, _, tail = rest.rpartition(_CLOSE)
    frame = _frame(head, tail)
    texts = []
    for part in body.split(_GROUP)[1:]:
        numbers, _, units = part.partition("]")
        shapes = tuple([frame.inputs[int(number)] for number in numbers.split(",")])
        texts.append((units.removesuffix(","), shapes, frame.dtype))
    if any(text not in _GROUPS for text in texts):
        if len(_GROUPS) > _MOST:
            _GROUPS.clear()
        _GROUPS.update(zip(texts, _groups(text), strict=True))
    groups = [_GROUPS[text] for text in texts]
    return StageSummary(
        key=key,
        key_version=KEY_VERSION,
        canonical=text,
        strategy=frame.strategy,
        dtype=frame.dtype,
        layout=frame.layout,
        batch=frame.inputs[0][0],
        groups=len(groups),
        units=sum([group.units for group in groups]),
        flops=sum([group.flops for group in groups]),
        bytes_moved=sum([group.bytes_moved for group in groups]),
        operators=tuple([operator for group in groups for operator in group.operators]),
    )


@lru_cache(maxsize=_MOST)
def _frame(head: str, tail: str) -> _Frame:
    """What stands before a stage's groups, and after them."""
    document = json.loads(f"{head}{_CLOSE.removeprefix(']')}{tail}")
    inputs = tuple(tuple(shape) for shape in document["inputs"])
    return _Frame(document["dtype"], document["layout"], document["strategy"], inputs)


def _groups(text: str) -> list[_Group]:
    stage = Stage.from_json(text)
    summaries = iter(stage.summary.operators)
    found = []
    for units in stage.groups:
        operators = [operator for unit in units for operator in unit.operators]
        flops, moved = (sum(map(count, operators)) for count in (stage.flops, stage.bytes_moved))
        found.append(_Group(len(units), flops, moved, tuple([next(summaries) for _ in operators])))
    return found
