"""An answer to why a schedule has a stage: its alternatives, and what speaks against each, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from iosfarm.search.alternatives import Cost

_EXACT = 1e-9


@dataclass(frozen=True)
class NamedStage:
    """A stage by the names of its units."""

    strategy: str
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Row:
    """What could run: stages, one after the other. own: they alone. samples: of a measured one. expected: predicted,
    where they were not all measured. whole: the part with them. why: what speaks against them.
    """

    stages: tuple[NamedStage, ...]
    own: Cost
    samples: int | None
    expected: float | None
    whole: Cost
    why: str = ""


@dataclass(frozen=True)
class Explanation:
    """chosen: the stage itself. others: how many stages could run there, None where the search space does not hold what
    is left to run (see `notes`); of those `measured` were, `infeasible` cannot run. best: the best of them.
    simpler: the stage's groups one after the other, and its units.
    """

    stage: int
    part: int
    chosen: Row
    others: int | None
    measured: int
    infeasible: int
    best: tuple[Row, ...]
    simpler: tuple[Row, ...]
    notes: tuple[str, ...]


def reason(own: Cost, whole: Cost, chosen: Cost, confidence: float) -> str:
    """What speaks against an alternative to a stage, in words.

    own: of what could run instead. whole: of the part with it. chosen: of the part as it is.
    """
    if own.known is not None and math.isinf(own.known):
        return "cannot run on this device"
    total = chosen.known
    if total is None:
        return "the schedule's own stages here were not all measured"
    kind = f"the regression's bound at {confidence:.3g} confidence" if whole.statistical else "a structural bound"
    if whole.known is not None:
        text = _slower(whole.known - total, total)
        if whole.at_least < min(whole.known, total) * (1 - _EXACT):
            text += f"; with stages before it that were not measured, {whole.at_least * 1e3:.3f} ms at least"
        return text
    if own.at_least <= 0:
        return "not measured, and nothing is known that bounds it"
    if whole.at_least >= total * (1 - _EXACT):
        return f"cannot win: {_more(whole.at_least - total, total)} at least, by {kind}"
    return f"not ruled out: it could win {_more(total - whole.at_least, total)} at most, by {kind}"


def _slower(more: float, total: float) -> str:
    if abs(more) <= _EXACT * total:
        return "just as fast"
    if more > 0:
        return f"slower by {_more(more, total)}"
    return f"faster by {_more(-more, total)}, as measured now: search again"


def _more(seconds: float, total: float) -> str:
    return f"{seconds * 1e6:.1f} us ({seconds / total:.2%})"
