"""ONNX operators one by one: what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_nets import Net, both  # noqa: E402

from iosfarm.frontends.onnx import import_file  # noqa: E402

ONE: dict[str, tuple[str, Sequence[int], Sequence[Any], Mapping[str, Any]]] = {
    # name: kind, shape of the input behind the batch, further inputs (arrays or shapes of weights), attributes
    "conv-asymmetric": ("Conv", (4, 9, 8), [(6, 2, 3, 2), (6,)],
                        {"group": 2, "pads": [0, 1, 2, 0], "strides": [2, 1], "dilations": [1, 2]}),
    "conv-same": ("Conv", (4, 9, 8), [(6, 4, 3, 2)], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "conv-1d": ("Conv", (4, 9), [(6, 4, 3)], {"pads": [1, 1]}),
    "conv-transpose": ("ConvTranspose", (4, 5, 6), [(4, 3, 3, 3), (3,)],
                       {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "conv-transpose-groups": ("ConvTranspose", (4, 5, 6), [(4, 3, 2, 2)], {"strides": [2, 2], "group": 2}),
    "max-pool-ceil": ("MaxPool", (4, 9, 8), [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max-pool-before": ("MaxPool", (4, 9, 8), [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]}),
    "max-pool-after": ("MaxPool", (4, 9, 8), [], {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [0, 1, 1, 0]}),
    "average-pool-around": ("AveragePool", (4, 9, 8), [],
                            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "average-pool-uneven": ("AveragePool", (4, 9, 8), [], {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1]}),
    "average-pool-over-the-end": ("AveragePool", (4, 9, 9), [],
                                  {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "global-max": ("GlobalMaxPool", (4, 5, 6), [], {}),
    "lrn": ("LRN", (9, 4, 5), [], {"size": 5, "alpha": 0.3, "bias": 2.0}),
    "instance-norm": ("InstanceNormalization", (4, 5, 6), [(4,), (4,)], {"epsilon": 1e-3}),
    "layer-norm": ("LayerNormalization", (4, 6), [(6,), (6,)], {}),
    "prelu": ("PRelu", (4, 5, 6), [(4, 1, 1)], {}),
    "prelu-one": ("PRelu", (4, 5, 6), [(1,)], {}),
    "prelu-rows": ("PRelu", (4, 5, 6), [(6,)], {}),
    "hard-sigmoid": ("HardSigmoid", (4, 5), [], {"alpha": 0.3, "beta": 0.4}),
    "hard-swish": ("HardSwish", (4, 5), [], {}),
    "celu": ("Celu", (4, 5), [], {"alpha": 1.5}),
    "selu": ("Selu", (4, 5), [], {}),
    "softsign": ("Softsign", (4, 5), [], {}),
    "thresholded": ("ThresholdedRelu", (4, 5), [], {"alpha": 0.3}),
    "elu": ("Elu", (4, 5), [], {"alpha": 0.4}),
    "erf": ("Erf", (4, 5), [], {}),
    "gemm": ("Gemm", (6,), [(6, 5), (1, 5)], {"alpha": 0.5, "beta": 2.0}),
    "gemm-plain": ("Gemm", (6,), [(6, 5)], {}),
    "matmul": ("MatMul", (4, 6), [(6, 5)], {}),
    "matmul-batched": ("MatMul", (3, 4, 6), [(1, 3, 6, 5)], {}),
    "add-constant": ("Add", (4, 5), [(1, 4, 1)], {}),
    "mul-larger": ("Mul", (1, 5), [(4, 5)], {}),
    "pow": ("Pow", (4, 5), [np.float32(2.0)], {}),
    "transpose": ("Transpose", (4, 5, 6), [], {"perm": [0, 2, 3, 1]}),
    "reduce-l2": ("ReduceL2", (4, 5), [np.array([2])], {"keepdims": 0}),
    "reduce-sum-square": ("ReduceSumSquare", (4, 5), [np.array([1])], {}),
    "reduce-prod": ("ReduceProd", (4, 3), [np.array([1, 2])], {}),
    "reduce-log": ("ReduceLogSumExp", (4, 5), [np.array([1])], {}),
    "depth-to-space": ("DepthToSpace", (8, 3, 4), [], {"blocksize": 2}),
    "depth-to-space-crd": ("DepthToSpace", (8, 3, 4), [], {"blocksize": 2, "mode": "CRD"}),
    "space-to-depth": ("SpaceToDepth", (3, 4, 6), [], {"blocksize": 2}),
    "resize-linear": ("Resize", (3, 4, 5), [None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    "resize-corners": ("Resize", (3, 4, 5), [None, None, np.array([2, 3, 9, 7])],
                       {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    "resize-nearest": ("Resize", (3, 4, 6), [None, None, np.array([2, 3, 6, 4])], {"mode": "nearest"}),
    "resize-cubic": ("Resize", (3, 4, 6), [None, None, np.array([2, 3, 8, 9])], {"mode": "cubic"}),
    "pad-edge": ("Pad", (3, 4, 5), [np.array([0, 0, 1, 0, 0, 0, 2, 1])], {"mode": "edge"}),
    "pad-reflect": ("Pad", (3, 4, 5), [np.array([0, 0, 1, 0, 0, 0, 2, 1])], {"mode": "reflect"}),
    "pad-channels": ("Pad", (3, 4, 5), [np.array([0, 1, 0, 0, 0, 2, 0, 0])], {}),
    "slice-backwards": ("Slice", (3, 6), [np.array([-1]), np.array([-7]), np.array([2]), np.array([-2])], {}),
    "gather-some": ("Gather", (5, 4), [np.array([0, 3, 3])], {"axis": 1}),
    "gather-one": ("Gather", (5, 4), [np.array(2)], {"axis": 1}),
    "tile": ("Tile", (3, 4), [np.array([1, 2, 1])], {}),
    "expand": ("Expand", (1, 4), [np.array([1, 3, 1])], {}),
    "einsum": ("Einsum", (3, 4), [(4, 5)], {"equation": "bij,jk->bik"}),
    "softmax-channels": ("Softmax", (3, 4, 5), [], {"axis": 1}),
    "log-softmax": ("LogSoftmax", (5,), [], {}),
    "flatten-late": ("Flatten", (3, 4, 5), [], {"axis": 2}),
    "cum-sum": ("CumSum", (6, 5), [np.array(1)], {}),
    "sum-of-one": ("Sum", (6, 5), [], {}),
    "mean": ("Mean", (6, 5), [(1, 6, 5), (1, 6, 5)], {}),
    "max": ("Max", (6, 5), [(6, 5)], {}),
    "group-norm": ("GroupNormalization", (6, 4, 3), [(6,), (6,)], {"num_groups": 3}),
    "gelu-tanh": ("Gelu", (4, 5), [], {"approximate": "tanh"}),
    "mish": ("Mish", (4, 5), [], {}),
}  # fmt: skip

WHOLE = {
    "conv-1d", "max-pool-after", "celu", "thresholded", "reduce-prod", "reduce-log", "resize-cubic", "resize-nearest",
    "slice-backwards", "gather-some", "tile", "expand", "cum-sum", "max",
}  # fmt: skip
"""Those that have no counterpart of ours."""


@pytest.mark.parametrize("name", ONE)
def test_one_operator(name: str, tmp_path: Path) -> None:
    kind, shape, others, attributes = ONE[name]
    net = Net(21 if kind in ("GroupNormalization", "Gelu", "Mish") else 18)
    inputs = [net.input(2, *shape)]
    for other in others:
        if other is None:
            inputs.append("")
        else:
            inputs.append(net.weight(*other) if isinstance(other, tuple) else net.constant(other))
    path = net.save(tmp_path / "net.onnx", net.add(kind, *inputs, **attributes))
    imported = import_file(path)
    assert bool(imported.opaque) == (name in WHOLE), [str(item) for item in imported.opaque]
    assert both(path, imported, 2) <= 1e-4
