"""TensorFlow: the network as a graph (`tf.function`), frozen; with XLA as the variant `xla`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from iosfarm.compare.adapter import CannotRun, Prepared, as_arrays
from iosfarm.compare.nhwc import Pads, Pair, lower, nhwc
from iosfarm.compare.problem import Array, Problem
from iosfarm.compare.rows import Profile


def prepare(problem: Problem, variant: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    tf.config.threading.set_intra_op_parallelism_threads(problem.threads)
    # Operators side by side, as many as there are threads: TensorFlow's own default.
    tf.config.threading.set_inter_op_parallelism_threads(problem.threads)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if problem.device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise CannotRun(f"tensorflow {tf.__version__} has no GPU here: pip install 'tensorflow[and-cuda]'")
    if problem.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    operations = _Operations(problem.graph.dtype, embedded=variant != "xla")
    inputs = [tf.constant(nhwc(array), operations.dtype) for array in problem.inputs]
    function = tf.function(
        lower(problem.graph, problem.weights, operations), jit_compile=variant == "xla", autograph=False
    )
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in inputs]
    concrete = function.get_concrete_function(*signature)

    def call() -> object:
        outputs = concrete(*inputs)
        if problem.device == "cuda":
            tf.test.experimental.sync_devices()
        return outputs

    kernels = sum(
        node.type not in ("Const", "Placeholder", "Identity", "NoOp") for node in concrete.graph.get_operations()
    )
    source = "operators of the graph, which XLA fuses" if variant == "xla" else "operators of the graph"
    return Prepared(tf.__version__, call, as_arrays, lambda: Profile(source, kernels))


class _Operations:
    activations: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "relu": tf.nn.relu,
        "relu6": tf.nn.relu6,
        "sigmoid": tf.math.sigmoid,
        "tanh": tf.math.tanh,
        "silu": tf.nn.silu,
        "gelu": tf.nn.gelu,
        "hard_sigmoid": lambda x: tf.nn.relu6(x + 3) / 6,
        "hard_swish": lambda x: x * tf.nn.relu6(x + 3) / 6,
    }

    def __init__(self, dtype: str, *, embedded: bool) -> None:
        """embedded: weights are constants of the graph, as oneDNN wants them; XLA compiles for minutes with them."""
        self.dtype = tf.as_dtype(dtype)
        self._embedded = embedded

    def constant(self, array: Array) -> Any:
        if self._embedded:
            return tf.constant(np.asarray(array), self.dtype)
        with tf.init_scope():  # outside of the graph, which refers to it
            return tf.constant(np.asarray(array), self.dtype)

    def conv2d(self, x: Any, weight: Array, stride: Pair, pads: Pads, dilation: Pair, groups: int) -> Any:
        padding = [[0, 0], *map(list, pads), [0, 0]]
        if groups == 1:
            return tf.nn.conv2d(x, self.constant(weight), stride, padding, dilations=dilation)
        channels = x.shape[3]
        if groups == channels and stride[0] == stride[1]:
            # (height, width, 1, channels · m) as TensorFlow wants it: (height, width, channels, m)
            depthwise = weight.reshape(*weight.shape[:2], channels, -1)
            strides = [1, *stride, 1]
            return tf.nn.depthwise_conv2d(x, self.constant(depthwise), strides, padding, dilations=dilation)
        parts = zip(tf.split(x, groups, 3), np.split(weight, groups, 3), strict=True)
        return tf.concat([self.conv2d(part, w, stride, pads, dilation, 1) for part, w in parts], 3)

    def max_pool(self, x: Any, kernel: Pair, stride: Pair, pads: Pads) -> Any:
        if not any(map(any, pads)):
            return tf.nn.max_pool2d(x, kernel, stride, "VALID")
        if self._embedded:
            return tf.nn.max_pool2d(x, kernel, stride, [[0, 0], *map(list, pads), [0, 0]])
        # XLA refuses a pool with padding of its own, and fuses one before it.
        return tf.nn.max_pool2d(self.pad(x, pads, self.dtype.min), kernel, stride, "VALID")

    def sum_pool(self, x: Any, kernel: Pair, stride: Pair, pads: Pads) -> Any:
        if any(map(any, pads)):
            x = self.pad(x, pads, 0.0)
        return tf.nn.avg_pool2d(x, kernel, stride, "VALID") * (kernel[0] * kernel[1])

    def mean(self, x: Any) -> Any:
        return tf.reduce_mean(x, (1, 2), keepdims=True)

    def matmul(self, x: Any, weight: Any) -> Any:
        return tf.matmul(x, weight)

    def concat(self, values: Sequence[Any], axis: int) -> Any:
        return tf.concat(values, axis)

    def pad(self, x: Any, pads: Pads, value: float) -> Any:
        return tf.pad(x, [[0, 0], *pads, [0, 0]], constant_values=value)

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        return tf.transpose(x, axes)

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        return tf.reshape(x, shape)

    def softmax(self, x: Any, axis: int) -> Any:
        return tf.nn.softmax(x, axis)
