"""How much of a part can run side by side: its width, and the chains that it falls into.

A chain is a set of units each of which has to wait for the one before it, directly or not.
"""

from __future__ import annotations

from collections.abc import Iterator

from iosfarm.search.parts import Part


def width(part: Part) -> int:
    """The largest number of units of which none waits for another: the d of the IOS paper's bound.

    By Dilworth's theorem that is the least number of chains that hold every unit, and that is the number of units less
    the largest matching of units with later ones.
    """
    above = _ancestors(part)
    after: dict[int, int] = {}  # later unit -> the unit before it in its chain

    def extend(unit: int, tried: set[int]) -> bool:
        for later in range(unit + 1, len(above)):
            if above[later] >> unit & 1 and later not in tried:
                tried.add(later)
                if later not in after or extend(after[later], tried):
                    after[later] = unit
                    return True
        return False

    return len(above) - sum(extend(unit, set()) for unit in range(len(above)))


def chain_decomposition(part: Part) -> list[int]:
    """Lengths of the longest chain, the longest in what is left, and so on; at least as many as the part is wide."""
    above = _ancestors(part)
    left = set(range(len(above)))
    lengths = []
    while left:
        best: dict[int, tuple[int, int | None]] = {}  # length of the longest chain that ends here, the unit before
        for unit in sorted(left):
            chains = [(best[p][0] + 1, p) for p in _bits(above[unit]) if p in left]
            best[unit] = max(chains, default=(1, None), key=lambda chain: chain[0])
        end: int | None = max(left, key=lambda unit: (best[unit][0], -unit))
        lengths.append(max(length for length, _ in best.values()))
        while end is not None:
            left.discard(end)
            end = best[end][1]
    return lengths


def _ancestors(part: Part) -> list[int]:
    ancestors: list[int] = []
    for before in part.predecessors():
        ancestors.append(before)
        for p in _bits(before):
            ancestors[-1] |= ancestors[p]
    return ancestors


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
