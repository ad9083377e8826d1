"""The simulated GPUs: one table of parameters, with sources.

How `kernel.py` and `model.py` use each number is written at the number.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from iosfarm.ir.errors import UsageError


@dataclass(frozen=True)
class SimDevice:
    """One GPU. Rates in operations per second, sizes in bytes, times in seconds.

    model: the maker's name.
    sms, clock: streaming multiprocessors and boost clock. They do not enter the model by themselves: `sms` fixes how
        many thread blocks it takes to fill the device, `clock` documents where `rates` come from.
    rates: peak arithmetic rate by dtype; a dtype that is not listed is infeasible. float16 and bfloat16 are the
        tensor cores' dense rate.
    issue: share of the peak that the inner loop of a matrix product reaches when nothing else limits it.
    bandwidth, l2_bandwidth: of device memory, and of the L2 cache for tensors that fit into it.
    l2: size of the L2 cache; a kernel whose activations are larger reads and writes them in device memory.
    memory: a stage whose tensors need more is infeasible.
    threads_per_sm, blocks_per_sm: residency limits, from which the blocks that saturate an SM follow (`slots`).
    launch: host time to submit one kernel; launches of all streams are serial.
    latency: what a kernel needs besides its work (start, first loads, drain); other kernels can run meanwhile.
    barrier: end of a stage. sync: fork and join of one more stream (two event records, two waits). join: what waiting
        for several streams costs besides, once a stage.
    """

    name: str
    model: str
    sms: int
    clock: float
    rates: Mapping[str, float]
    issue: float
    bandwidth: float
    l2_bandwidth: float
    l2: int
    memory: int
    threads_per_sm: int
    blocks_per_sm: int
    launch: float
    latency: float
    barrier: float
    sync: float
    join: float

    @property
    def slots(self) -> int:
        """Thread blocks that together reach the peak rate.

        A quarter of the thread slots suffices when every thread has independent work in flight (Volkov, "Better
        performance at lower occupancy", GTC 2010).
        """
        return self.sms * min(self.blocks_per_sm, self.threads_per_sm // 4 // BLOCK_THREADS)


BLOCK_THREADS = 256
"""Threads of a block, for every kernel."""

_GB = 10**9

# Sizes and peak rates: NVIDIA's "Tesla V100 GPU Architecture" (WP-08608), "Tesla K80 GPU Accelerator" (BD-07317) with
# the GK110/210 white paper, and the H200 data sheet with "H100 Tensor Core GPU Architecture". L2 bandwidths: Jia et
# al., "Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking" (2018, V100 and Kepler), about 5.5 TB/s
# read for Hopper. Host costs are what an engine of the device's day pays: on Kepler and Volta eager calls, and a host
# that waits for multi-stream stages (a launch 4 to 6 µs, waking the waiting host 10 µs and more); on Hopper nodes and
# edges of a CUDA graph (1 to 2 µs each).
DEVICES: Mapping[str, SimDevice] = {
    device.name: device
    for device in (
        SimDevice(
            name="v100",
            model="Tesla V100-SXM2-16GB",
            sms=80,
            clock=1.53e9,
            rates={"float32": 15.7e12, "float16": 125e12},
            issue=0.95,
            bandwidth=900e9,
            l2_bandwidth=2.2e12,
            l2=6 * 2**20,
            memory=16 * _GB,
            threads_per_sm=2048,
            blocks_per_sm=32,
            launch=4e-6,
            latency=4e-6,
            barrier=2e-6,
            sync=4e-6,
            join=16e-6,
        ),
        # One of the two GK210 of the board, at the base clock of 562 MHz, where two loaded chips under one power limit
        # settle: 13 · 192 · 2 · 562 MHz = 2.8 TFLOP/s (the boost clock of 875 MHz would give 4.37). Kepler cannot
        # feed the 192 cores of an SMX without dual issue, 128 of them is what single issue reaches: 0.65.
        SimDevice(
            name="k80",
            model="Tesla K80 (one GK210)",
            sms=13,
            clock=0.562e9,
            rates={"float32": 2.8e12},
            issue=0.65,
            bandwidth=240e9,
            l2_bandwidth=0.5e12,
            l2=3 * 2**19,
            memory=12 * _GB,
            threads_per_sm=2048,
            blocks_per_sm=16,
            launch=6e-6,
            latency=7e-6,
            barrier=2e-6,
            sync=5e-6,
            join=14e-6,
        ),
        SimDevice(
            name="h200",
            model="H200 SXM",
            sms=132,
            clock=1.98e9,
            rates={"float32": 67e12, "float16": 989e12, "bfloat16": 989e12},
            issue=0.9,
            bandwidth=4.8e12,
            l2_bandwidth=5.5e12,
            l2=50 * 2**20,
            memory=141 * _GB,
            threads_per_sm=2048,
            blocks_per_sm=32,
            launch=2e-6,
            latency=3e-6,
            barrier=1e-6,
            sync=1e-6,
            join=2e-6,
        ),
    )
}


def device(name: str) -> SimDevice:
    """The device `sim:NAME`.

    Raises:
        UsageError: there is none of that name; the line lists those there are.
    """
    found = DEVICES.get(name)
    if found is None:
        near = difflib.get_close_matches(name.lower(), DEVICES, 1)
        known = ", ".join(f"sim:{item}" for item in sorted(DEVICES))
        hint = f"did you mean sim:{near[0]}? known: {known}" if near else f"known: {known}"
        raise UsageError(f"unknown simulated device 'sim:{name}'", hint=hint)
    return found
