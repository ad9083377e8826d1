"""`CpuRuntime`: the embedded default; everything runs for real on the cores of this machine."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeVar

import torch
from torch import Tensor

from iosfarm.ir.device import Device, Environment, Fact
from iosfarm.ir.errors import Infeasible, UsageError
from iosfarm.ir.graph import DTYPES, Graph
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage
from iosfarm.kernels.cpu import machine
from iosfarm.kernels.cpu.allocator import keep_freed_memory
from iosfarm.kernels.cpu.arena import place
from iosfarm.kernels.cpu.executable import CpuExecutable
from iosfarm.kernels.cpu.network import CpuNetwork
from iosfarm.kernels.cpu.operators.onednn import onednn
from iosfarm.kernels.cpu.program import StageProgram, lower, with_liveness
from iosfarm.kernels.cpu.streams import Streams, intra_op_threads
from iosfarm.kernels.cpu.weights import RandomTensors, given_tensors
from iosfarm.kernels.runtime import Array, Weights

VERSION = 7
"""Raise it whenever a change here changes latencies: measurements of another version are not reused."""

DISTURBED = 0.75
"""Share of the second-level caches that is overwritten before each execution that is timed, see `CpuExecutable`.

Measured, sum of stages timed alone / the same schedule end to end: 0 gives 0.75 to 0.94, 0.75 gives 0.95 for Inception
V3 and 1.05 to 1.1 for a network of a tenth of its work, 1 gives 0.97 to 1.12.
"""

WORKSPACE = 2
"""Bytes reckoned with for each byte of tensors: oneDNN reorders weights and inputs into copies of its own."""

_THREAD_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_BLOCKTIME")


Made = TypeVar("Made", bound=CpuExecutable)


class CpuRuntime:
    """oneDNN's convolutions, torch's other operators, channels last, on `threads` cores: all that the process may use
    unless given.
    """

    layout = "nhwc"
    forms = ("stages",)

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"{threads} threads", hint="use at least 1")
        keep_freed_memory()
        self._streams = Streams(threads)
        self._random = RandomTensors()
        self._scratch = torch.zeros(int(DISTURBED * self._streams.cores * machine.l2_bytes()) // 4)
        self._open: set[CpuExecutable] = set()
        self._closed = False
        self._fingerprint = self._identify()

    def fingerprint(self) -> tuple[Device, Environment]:
        """See `Runtime.fingerprint`."""
        return self._fingerprint

    def prepare(self, stage: Stage, weights: Sequence[Mapping[str, Array]] | None = None) -> CpuExecutable:
        """See `Runtime.prepare`."""
        self._check_open()
        if stage.layout != self.layout:
            raise UsageError(f"a stage in {stage.layout}; this runtime has {self.layout}")
        dtype = _dtype(stage.dtype)
        operators = list(stage.operators)
        if weights is not None and len(weights) != len(operators):
            raise UsageError(f"weights for {len(weights)} operators; the stage has {len(operators)}")
        parameters = [stage.parameters(operator) for operator in operators]
        shapes = [
            *stage.inputs,
            *stage.inputs,
            *(o.shape for o in operators),
            *(s for p in parameters for s in p.values()),
        ]
        _check_memory(sum(map(math.prod, shapes)) * DTYPES[stage.dtype])
        bound = [
            {name: self._random.parameter(name, shape, dtype) for name, shape in expected.items()}
            if weights is None
            else given_tensors(expected, weights[number], "", dtype)
            for number, expected in enumerate(parameters)
        ]
        count = len(stage.inputs)
        outputs = [count + unit.output for unit in stage.units]
        program = self._lower(stage, bound, lambda r: count + r if r >= 0 else -1 - r)
        inputs = [self._random.input(shape, dtype) for shape in stage.inputs]
        arena = place([program], count + len(operators), outputs, dtype)
        executable = CpuExecutable(self._streams, arena, inputs, outputs, self._scratch, self._open.discard)
        return self._kept(executable, stage.dtype, "opaque" in {operator.kind for operator in operators})

    def prepare_schedule(self, graph: Graph, schedule: Schedule, weights: Weights) -> CpuNetwork:
        """See `Runtime.prepare_schedule`."""
        self._check_open()
        dtype = _dtype(graph.dtype)
        placed = schedule.place(graph, self.layout)
        names = [*(item.name for item in graph.inputs), *(operator.name for operator in graph.operators)]
        slot = {name: number for number, name in enumerate(names)}
        outputs = [slot[name] for name in graph.outputs]
        _check_memory(_schedule_bytes(graph))
        programs = []
        for item in placed:
            own = [name for group in item.groups for unit in group for name in graph.units[unit].operators]
            slots = [slot[name] for name in own]
            read = [slot[name] for name in item.inputs]
            bound = [given_tensors(graph.parameters(graph.operator(name)), weights, f"{name}.", dtype) for name in own]
            programs.append(self._lower(item.stage, bound, lambda r, s=slots, i=read: s[r] if r >= 0 else i[-1 - r]))
        inputs = [self._random.input(graph.shape(item.name), dtype) for item in graph.inputs]
        units = [[graph.units[unit].name for group in item.groups for unit in group] for item in placed]
        arena = place(with_liveness(programs, outputs), len(names), outputs, dtype)
        network = CpuNetwork(self._streams, arena, inputs, outputs, self._scratch, self._open.discard, units)
        return self._kept(network, graph.dtype, "opaque" in {operator.kind for operator in graph.operators})

    def close(self) -> None:
        """See `Runtime.close`; closes the executables that are still open."""
        if not self._closed:
            self._closed = True
            for executable in list(self._open):
                executable.close()
            self._streams.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a runtime: it holds threads of this process; open it where it is used")

    def _lower(self, stage: Stage, bound: Sequence[Mapping[str, Tensor]], slot_of: object) -> StageProgram:
        # Weights are arranged under inference mode, so that what is made of them may be changed in place, and for the
        # number of threads that will use them: oneDNN's formats depend on it.
        with torch.inference_mode(), intra_op_threads(self._streams.width(len(stage.streams))):
            return lower(stage, bound, slot_of)  # type: ignore[arg-type]

    def _kept(self, executable: Made, dtype: str, opaque: bool) -> Made:
        """An executable that is closed with the runtime at the latest."""
        self._open.add(executable)
        if dtype != "float32" or opaque:
            # torch lacks some operators in half precision, and says so only when they run; so do opaque programs.
            try:
                executable.time(1)
            except NotImplementedError as error:
                executable.close()
                raise Infeasible(f"torch has no {dtype} on this CPU: {error}") from error
            except Infeasible:
                executable.close()
                raise
        return executable

    def _identify(self) -> tuple[Device, Environment]:
        properties: dict[str, Fact] = {
            **machine.cpu_facts(),
            "cores": self._streams.cores,
            "isa": torch.backends.cpu.get_cpu_capability(),
        }
        device = Device("cpu", machine.cpu_model(), properties, {"host": platform.node()})
        release, library = torch.__version__.split("+")[0], onednn()
        settings = [f"{name}={os.environ[name]}" for name in _THREAD_SETTINGS if name in os.environ]
        hard: dict[str, Fact] = {
            "runtime": "cpu",
            "runtime_version": VERSION,
            "provider": "torch" if library is None else "onednn",
            "provider_version": release if library is None else library.version,
            "torch": release,
            "precision": torch.get_float32_matmul_precision(),
            "timing": "warm inputs",
            "threads": " ".join(["pinned" if self._streams.pinned else "free", *settings]),
        }
        return device, Environment(hard, machine.software_facts())

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this runtime is closed")


def _dtype(name: str) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[name]


def _schedule_bytes(graph: Graph) -> int:
    """Weights, and the largest set of tensors that must be there at once in the graph's own order."""
    size = DTYPES[graph.dtype]
    weights = sum(math.prod(shape) for operator in graph.operators for shape in graph.parameters(operator).values())
    last = {name: position for position, operator in enumerate(graph.operators) for name in operator.inputs}
    alive = {item.name for item in graph.inputs}
    peak = 0
    for position, operator in enumerate(graph.operators):
        alive.add(operator.name)
        peak = max(peak, sum(math.prod(graph.shape(name)) for name in alive))
        alive = {name for name in alive if name in graph.outputs or last.get(name, -1) > position}
    return (weights + peak) * size


def _check_memory(tensors: int) -> None:
    """Refuse what cannot fit, before the system kills the process for it.

    Raises:
        Infeasible: it is more than this machine has. MemoryError: it is more than is free just now.
    """
    needed = tensors * WORKSPACE
    for have, error in ((machine.total_memory(), Infeasible), (machine.available_memory(), MemoryError)):
        if needed > have:
            kind = "has" if error is Infeasible else "has free now"
            raise error(f"needs about {needed / 2**30:.1f} GiB of memory; this machine {kind} {have / 2**30:.1f} GiB")
