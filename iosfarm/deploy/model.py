"""`CompiledModel`: a network under a schedule, as a function."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self, cast

import torch
from torch import Tensor

from iosfarm.deploy.runtimes import SharedRuntime, leave, release
from iosfarm.deploy.signatures import GraphSignature, Signature
from iosfarm.deploy.tensors import checked, returned
from iosfarm.ir.device import Device
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule
from iosfarm.kernels.network import Span, StaysOnDevice, TakesTensors, Traceable
from iosfarm.kernels.runtime import Array, Executable, Weights


class CompiledModel:
    """Call it with NumPy arrays or torch tensors; what comes back is of the same kind, and the caller's own.

    Inference only. Any thread may call it: calls run one after the other, each on all cores of the device. Weights,
    input buffers, the order of everything and the memory of what is computed on the way are fixed when it is made;
    results are never memory of another call. On a CPU, operators that only torch has, such as padding and resizing,
    take memory in each call and give it back as soon as no later stage reads it. Activations that are fused into
    convolutions and sums make other numbers of NaN than torch does (oneDNN's ReLU makes 0), and so do max pools. It
    cannot be pickled, and not be used after a fork. It takes over one `acquire` of its runtime.

    Raises, when called:
        UsageError: inputs that do not fit; the line says which and why. RuntimeError: it is closed.
    """

    def __init__(
        self,
        shared: SharedRuntime,
        graph: Graph,
        schedule: Schedule,
        weights: Weights,
        signature: Signature | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        self.graph = graph
        self.schedule = schedule
        self.notices = tuple(notices)
        self._signature = signature or GraphSignature(graph)
        self._shared = shared
        with shared.use() as runtime:
            self._executable: Executable | None = runtime.prepare_schedule(graph, schedule, weights)
            self.device: Device = runtime.fingerprint()[0]
        # A model that is dropped gives its memory back. The threads stay: this may run on one of them.
        self._dropped = weakref.finalize(self, _drop, shared, self._executable)
        self._dropped.atexit = False

    def __call__(self, *arguments: object, **named: object) -> Any:
        """The outputs for these inputs."""
        tensors, as_numpy = checked(self.graph, self._signature.inputs(arguments, named))
        return self._signature.result(returned(self.graph, self.run_tensors(tensors), as_numpy))

    def run(self, *inputs: Array) -> list[Array]:
        """See `Executable.run`: NumPy arrays by position, a list of float32 arrays back; random inputs where none."""
        with self._shared.use():
            return self._opened().run(*inputs)

    def time(self, repeats: int) -> list[float]:
        """Seconds of each of so many executions; see `Executable.time`."""
        with self._shared.use():
            return self._opened().time(repeats)

    def trace(self) -> list[Span]:
        """What runs when, in one execution; see `iosfarm.deploy.trace`.

        Raises:
            UsageError: the device cannot tell.
        """
        with self._shared.use():
            executable = self._opened()
            if not isinstance(executable, Traceable):
                raise UsageError(f"{self.device.model} cannot be traced", hint="trace on the device cpu")
            return executable.trace()

    def close(self) -> None:
        """Give memory and, if it was the last model of its device, the threads back. Closing twice is allowed."""
        if self._dropped.detach() is None:
            return
        with self._shared.use():
            self._opened().close()
            self._executable = None
        release(self._shared)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a compiled model: it holds threads of this process; compile it where it is used")

    def __repr__(self) -> str:
        stages = len(self.schedule.stages)
        return f"<CompiledModel {self.graph.name}, batch {self.graph.batch}, {stages} stages on {self.device.model}>"

    def run_tensors(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The graph's outputs for its inputs, in order, which have to be as `TakesTensors.run_tensors` wants them."""
        with self._shared.use():
            executable = self._opened()
            if isinstance(executable, TakesTensors):
                return executable.run_tensors(tensors)
            outputs = executable.run(*[tensor.float().numpy() for tensor in tensors])
        dtype = getattr(torch, self.graph.dtype)
        return [torch.from_numpy(output).to(dtype) for output in outputs]

    def repeater(self, tensors: Sequence[Tensor]) -> tuple[Callable[[], object], Callable[[object], list[Tensor]]]:
        """For the same inputs again and again: a function that executes once and waits for the end, and one that makes
        tensors on the CPU of what that returns. On a device with memory of its own inputs and outputs stay there.
        """
        with self._shared.use():
            executable = self._opened()
            if not isinstance(executable, StaysOnDevice):
                return lambda: self.run_tensors(tensors), lambda outputs: cast("list[Tensor]", outputs)
            executable.put(tensors)
        placed = executable

        def execute() -> None:
            with self._shared.use():
                self._opened()
                placed.execute()

        def fetch(_: object) -> list[Tensor]:
            with self._shared.use():
                return placed.fetch()

        return execute, fetch

    def _opened(self) -> Executable:
        if self._executable is None:
            raise RuntimeError("this model is closed")
        return self._executable


def _drop(shared: SharedRuntime, executable: Executable) -> None:
    executable.close()
    leave(shared)
