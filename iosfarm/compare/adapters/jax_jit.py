"""JAX: the network as one jitted function, weights as constants."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from iosfarm.compare.adapter import CannotRun, Prepared, as_arrays
from iosfarm.compare.nhwc import Pads, Pair, lower, nhwc
from iosfarm.compare.problem import Array, Problem
from iosfarm.compare.rows import Profile


def prepare(problem: Problem, _: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    platform = "gpu" if problem.device == "cuda" else "cpu"
    try:
        device = jax.devices(platform)[0]
    except RuntimeError as error:
        raise CannotRun(f"jax has no {platform} here: {error}") from None
    jax.config.update("jax_default_matmul_precision", "highest")  # the same precision for all
    with jax.default_device(device):
        operations = _Operations(problem.graph.dtype)
        inputs = [jax.device_put(jnp.asarray(nhwc(array), operations.dtype), device) for array in problem.inputs]
        function = jax.jit(lower(problem.graph, problem.weights, operations))
        compiled = function.lower(*inputs).compile()

    def call() -> object:
        return jax.block_until_ready(compiled(*inputs))

    return Prepared(jax.__version__, call, as_arrays, lambda: _profiled(compiled.as_text()))


def _profiled(text: str) -> Profile:
    """What the compiled program's entry computation calls: no times, but how much there is to launch."""
    entry = text[text.index("ENTRY") :]
    return Profile(
        "XLA's compiled program", len(re.findall(r"= \S+ (?:fusion|call|custom-call|convolution|dot)\(", entry))
    )


class _Operations:
    activations: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "relu": jax.nn.relu,
        "relu6": jax.nn.relu6,
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
        "silu": jax.nn.silu,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "hard_sigmoid": jax.nn.hard_sigmoid,
        "hard_swish": jax.nn.hard_swish,
    }

    def __init__(self, dtype: str) -> None:
        self.dtype = jnp.dtype(dtype)

    def constant(self, array: Array) -> Any:
        return jnp.asarray(array, self.dtype)

    def conv2d(self, x: Any, weight: Array, stride: Pair, pads: Pads, dilation: Pair, groups: int) -> Any:
        return lax.conv_general_dilated(
            x,
            self.constant(weight),
            stride,
            pads,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def max_pool(self, x: Any, kernel: Pair, stride: Pair, pads: Pads) -> Any:
        return _window(x, -np.inf, lax.max, kernel, stride, pads)

    def sum_pool(self, x: Any, kernel: Pair, stride: Pair, pads: Pads) -> Any:
        return _window(x, 0.0, lax.add, kernel, stride, pads)

    def mean(self, x: Any) -> Any:
        return jnp.mean(x, (1, 2), keepdims=True)

    def matmul(self, x: Any, weight: Any) -> Any:
        return x @ weight

    def concat(self, values: Sequence[Any], axis: int) -> Any:
        return jnp.concatenate(values, axis)

    def pad(self, x: Any, pads: Pads, value: float) -> Any:
        return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        return jnp.transpose(x, axes)

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        return jnp.reshape(x, shape)

    def softmax(self, x: Any, axis: int) -> Any:
        return jax.nn.softmax(x, axis)


def _window(x: Any, start: float, combine: Any, kernel: Pair, stride: Pair, pads: Pads) -> Any:
    return lax.reduce_window(
        x, np.asarray(start, x.dtype), combine, (1, *kernel, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0))
    )
