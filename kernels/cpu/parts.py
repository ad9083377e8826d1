"""Values that are read by one concatenation only: who computes them could write them straight into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from iosfarm.ir.operators import Attributes, Shape

Described = tuple[str, Attributes, Sequence[int], int, Shape]
"""An operator: kind, attributes, the values that it reads and the one that it makes, and the shape of that."""


@dataclass(frozen=True)
class Part:
    """Channels of the value `whole`, which has `pitch` of them: from `first` on."""

    whole: int
    first: int
    pitch: int


def parts_of(
    operators: Iterable[Described], shape_of: Callable[[int], Shape], handed_on: Collection[int]
) -> dict[int, Part]:
    """Of each such value, the part that it is. handed_on: values that others may read, too."""
    listed = list(operators)
    readers = Counter(value for _, _, reads, _, _ in listed for value in reads)
    made = {result for *_, result, _ in listed}
    found = {}
    for kind, attributes, reads, result, shape in listed:
        if kind != "concat" or len(shape) != 4 or attributes.get("axis", 1) != 1:
            continue
        first = 0
        for value in reads:
            if readers[value] == 1 and value in made and value not in handed_on:
                found[value] = Part(result, first, shape[1])
            first += shape_of(value)[1]
    return found
