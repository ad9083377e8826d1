"""`ComputedExecutable`: of runtimes that execute nothing to tell the time; numbers come from the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, Self

import numpy as np

from iosfarm.ir.operators import Shape
from iosfarm.kernels.runtime import Array

Compute = Callable[[Sequence[Array]], list[Array]]


class ComputedExecutable:
    """See `iosfarm.kernels.runtime.Executable`; `time` is for those that know one."""

    def __init__(self, inputs: Sequence[Shape], compute: Compute) -> None:
        self._inputs = inputs
        self._compute = compute
        self._closed = False

    def run(self, *inputs: Array) -> list[Array]:
        """See `Executable.run`."""
        self._check_open()
        if inputs and len(inputs) != len(self._inputs):
            raise ValueError(f"{len(self._inputs)} input(s) are needed, got {len(inputs)}")
        for number, (array, shape) in enumerate(zip(inputs, self._inputs, strict=False)):
            if tuple(array.shape) != shape:
                raise ValueError(f"input {number} has the shape {list(array.shape)}, not {list(shape)}")
        arrays = list(inputs) or [np.random.default_rng(0).standard_normal(shape) for shape in self._inputs]
        # A copy, because an output can be an input itself (dropout).
        return [np.array(output, dtype=np.float32) for output in self._compute(arrays)]

    def close(self) -> None:
        """See `Executable.close`."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the executable is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle an executable: prepare one where it is used")
