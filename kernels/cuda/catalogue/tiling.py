"""How a convolution's matrix product is cut into blocks: tile size, and into how many parts k is split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iosfarm.ir.graph import DTYPES


@dataclass(frozen=True)
class Tile:
    """A block's share of the product and a thread's share of that, in rows (pixels) and columns (channels).

    k: terms of the sum between two barriers: fewer where registers are short, more where there is little else to do.
    tensor: multiplied by tensor cores.
    """

    m: int
    n: int
    k: int
    thread_m: int
    thread_n: int
    tensor: bool = False

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.m // self.thread_m * (self.n // self.thread_n)

    def constants(self) -> dict[str, int]:
        """The options of `gemm.cuh`."""
        sizes = {"TILE_M": self.m, "TILE_N": self.n, "TILE_K": self.k}
        own = {"TENSOR_CORE": 1} if self.tensor else {}
        return {**sizes, "THREAD_M": self.thread_m, "THREAD_N": self.thread_n, **own}


TILES = (Tile(128, 128, 8, 8, 8), Tile(64, 64, 16, 8, 4), Tile(32, 32, 32, 4, 4))
TENSOR_SHARES = ((128, 128, 8, 8), (64, 64, 4, 8), (32, 32, 4, 4))
"""Of tensor cores: rows and columns of a block, and of a thread as far as they say how many threads there are."""


def tensor_tiles(dtype: str) -> tuple[Tile, ...]:
    """Tiles for tensor cores: as many terms at a time as 64 bytes of a row have."""
    terms = 64 // DTYPES[dtype]
    return tuple(Tile(m, n, terms, thread_m, thread_n, tensor=True) for m, n, thread_m, thread_n in TENSOR_SHARES)


MAX_GRID = 65535
"""Blocks along the second and third axis of a grid."""
SPLITS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Tiling:
    """A tile, and the number of blocks that share one sum over k."""

    tile: Tile
    splits: int


def tilings(rows: int, columns: int, length: int, groups: int, tiles: Sequence[Tile] = TILES) -> list[Tiling]:
    """All that make sense for groups of `rows` x `columns` sums over `length`, the most promising first.

    The order is a guess to start from, for a large GPU; a runtime that can measure takes the first few and measures.
    """
    every = [
        Tiling(tile, splits)
        for tile in tiles
        for splits in SPLITS
        if splits == 1
        or (
            _splits_evenly(length, splits, tile.k)
            and splits * rows * columns * groups < _MAX_PARTIAL
            and splits * groups <= MAX_GRID
        )
    ]
    return sorted(every, key=lambda tiling: _cycles(tiling, rows, columns, length, groups))


def _splits_evenly(length: int, splits: int, k: int) -> bool:
    """Each part has enough terms, and no part is empty."""
    steps = -(-length // k)
    share = -(-steps // splits)
    return share * k >= _LEAST_TERMS and share * (splits - 1) < steps


_LEAST_TERMS = 64
_MAX_PARTIAL = 1 << 26  # elements of partial sums: beyond, there are blocks enough without a split

# A model of one launch, in clock cycles of one multiprocessor. Rough figures, only used to put tilings in order.
_PROCESSORS = 132
_FMA_A_CYCLE = 128
_TENSOR_FMA_A_CYCLE = 512
_REACHED = {128: 0.85, 64: 0.7, 32: 0.45}  # share of the peak, by the tile's rows, with the processor full
_STEP_LATENCY = 500  # a step waits at least for memory, as only one is fetched ahead
_LAUNCH = 3000
_BYTES_A_CYCLE = 2500  # of the whole GPU


def _cycles(tiling: Tiling, rows: int, columns: int, length: int, groups: int) -> float:
    tile = tiling.tile
    steps = -(-length // tile.k)
    blocks = -(-rows // tile.m) * -(-columns // tile.n) * groups * tiling.splits
    each = -(-blocks // _PROCESSORS)
    rate = _TENSOR_FMA_A_CYCLE if tile.tensor else _FMA_A_CYCLE
    work = tile.m * tile.n * tile.k / (rate * _REACHED[tile.m])
    cycles = -(-steps // tiling.splits) * max(_STEP_LATENCY, each * work)
    if tiling.splits > 1:
        cycles += _LAUNCH + 2 * 4 * tiling.splits * rows * columns * groups / _BYTES_A_CYCLE
    return cycles
