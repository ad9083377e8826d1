"""One operator as one GPU kernel: how many thread blocks it has, and how long it takes alone.

A roofline (Williams et al., CACM 2009) with limited parallelism. A kernel of b blocks on a device that b₀ blocks
(`SimDevice.slots`) fill runs in ⌈b/b₀⌉ waves and so holds b/⌈b/b₀⌉ slots on average: 20 blocks cannot use more than 20
slots, and 170 blocks on 160 slots leave half of the second wave to others.

Tiling. Convolutions and linear layers are implicit matrix products: rows are the output positions of the whole batch,
columns the output channels of one group; one block computes one tile, all of the reduction, without split-K. Edges are
padded: 48 channels on a tile of 64 pay for 64. Of `TILES` the one that finishes first alone is taken, as a
library's heuristics would. All other operators give every thread `VECTOR` output elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from iosfarm.ir.graph import DTYPES
from iosfarm.ir.operators import Attributes, Shape, spec
from iosfarm.kernels.sim.devices import BLOCK_THREADS, SimDevice

TILES = ((128, 128), (128, 64), (64, 64), (64, 32))
VECTOR = 4

VIEWS = frozenset({"slice", "flatten", "dropout", "constant"})
"""Operators without a kernel: strided views, or nothing at all."""

# Share of the peak arithmetic rate for what is not a matrix product: address arithmetic, comparisons and special
# functions share the issue slots with the counted operations, and nothing is reused from registers.
_PLAIN_RATE = 0.15
_PLAIN_PEAK = "float32"  # tensor cores help matrix products only

# Share of the bandwidth that a kernel reaches when it has enough blocks. Streams of whole lines do well; windows read
# neighbours again, which the L1 catches in part, depthwise convolutions most of all; a matrix product waits for its
# slowest tile.
_MEMORY_EFFICIENCY = {"matrix": 0.7, "window": 0.6, "depthwise": 0.3, "stream": 0.8}

# Winograd's F(2x2, 3x3) needs 2.25 times fewer multiplications (Lavin and Gray, CVPR 2016); the transforms take a part
# of that back. Libraries use it for 3x3 with stride 1 outside of the tensor cores.
_WINOGRAD_GAIN = 1.6

_WINDOWS = frozenset({"max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool", "resize"})
_REDUCTIONS = frozenset(
    {"global_max_pool", "global_avg_pool", "softmax", "log_softmax", "reduce", "layer_norm", "group_norm"}
)
_PRODUCTS = frozenset({"linear", "matmul", "attention", "conv_transpose2d"})

# A tile of m rows and n columns loads m + n values for m · n multiply-adds; a load from shared memory costs as much
# issue time as this many multiply-adds, spread over a warp's register tile.
_LOAD_COST = 8.0


@dataclass(frozen=True, eq=False)
class Kernel:
    """What the simulation needs to know of one kernel. Equal to itself only, which is quick to find out.

    compute, memory: seconds alone, at the parallelism that the kernel has. latency: seconds besides (see `SimDevice`).
    sm_load, memory_load: share of the device that it uses while it runs alone, 0 to 1.
    """

    compute: float
    memory: float
    latency: float
    blocks: int

    sm_load: float
    memory_load: float

    @cached_property
    def alone(self) -> float:
        """Seconds from start to end with the device to itself."""
        return self.latency + max(self.compute, self.memory)


def describe(
    device: SimDevice, kind: str, attributes: Attributes, inputs: Sequence[Shape], output: Shape, dtype: str
) -> Kernel | None:
    """The kernel of an operator, None for a view. The dtype is one of the device's."""
    if kind in VIEWS or (kind == "reshape" and 4 not in (len(inputs[0]), len(output))):
        return None  # a reshape of four axes to others moves the channels, which come last
    width = DTYPES[dtype]
    parameters = spec(kind).parameters(attributes, inputs)
    weight_bytes = width * sum(map(math.prod, parameters.values()))
    activation_bytes = width * sum(map(math.prod, (*dict.fromkeys(inputs), output)))
    flops = spec(kind).flops(attributes, inputs, output)
    depthwise = kind == "conv2d" and parameters["weight"][1] == 1
    if kind in _PRODUCTS or (kind == "conv2d" and not depthwise):
        groups = _integer(attributes.get("groups", 1))
        columns = output[1] if kind.startswith("conv") else output[-1]
        positions = math.prod(output) // columns
        rate = device.rates[dtype] * (_WINOGRAD_GAIN if _winograd(kind, attributes, dtype) else 1.0)
        work, blocks = _matrix_product(device, positions, columns // groups, groups, flops / math.prod(output), rate)
        sort = "matrix"
    else:
        elements = math.prod(inputs[0]) if kind in _REDUCTIONS else math.prod(output)
        blocks = -(-elements // (BLOCK_THREADS * VECTOR))
        work = flops / (_PLAIN_RATE * device.rates[_PLAIN_PEAK])
        sort = "depthwise" if depthwise else "window" if kind in _WINDOWS else "stream"
    # Inputs of a stage come from the stage before and are warm if they fit; weights have been evicted since they were
    # last used, because the weights of a network are larger than any L2.
    fast = activation_bytes <= device.l2
    traffic = weight_bytes / device.bandwidth + activation_bytes / (device.l2_bandwidth if fast else device.bandwidth)
    return _kernel(device, work, traffic / _MEMORY_EFFICIENCY[sort], blocks)


def _winograd(kind: str, attributes: Attributes, dtype: str) -> bool:
    return (
        kind == "conv2d"
        and dtype == "float32"
        and (attributes["kernel"], attributes["stride"], attributes["dilation"]) == ((3, 3), (1, 1), (1, 1))
    )


def _matrix_product(
    device: SimDevice, rows: int, columns: int, groups: int, flops_per_output: float, rate: float
) -> tuple[float, int]:
    """Seconds of arithmetic on the full device, and blocks, of the tile that finishes first."""
    best: tuple[float, float, int] | None = None
    for tall, wide in TILES:
        blocks = -(-rows // tall) * -(-columns // wide) * groups
        efficiency = device.issue / (1 + _LOAD_COST * (1 / tall + 1 / wide))
        work = blocks * tall * wide * flops_per_output / (rate * efficiency)
        finished = work / _parallelism(device, blocks)
        if best is None or finished < best[0]:
            best = (finished, work, blocks)
    assert best is not None
    return best[1], best[2]


def _kernel(device: SimDevice, work: float, traffic: float, blocks: int) -> Kernel:
    """From seconds at the full device's rates to the kernel's own."""
    compute = work / _parallelism(device, blocks)
    # One block on each SM has enough loads in flight to saturate the memory system (Little's law).
    memory = traffic / min(1.0, blocks / device.sms)
    alone = device.latency + max(compute, memory)
    return Kernel(compute, memory, device.latency, blocks, work / alone, traffic / alone)


def _parallelism(device: SimDevice, blocks: int) -> float:
    """Share of the device that `blocks` hold on average while they run."""
    waves = -(-blocks // device.slots)
    return blocks / (waves * device.slots)


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value
