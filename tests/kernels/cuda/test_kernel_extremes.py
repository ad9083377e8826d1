"""The CUDA kernels on numbers that most networks never see: as PyTorch has them."""

from __future__ import annotations

import pytest
import torch
from host_kernels import execute, from_bytes, needs_compiler, to_bytes
from operator_on_host import in_memory, of_memory, operator

from iosfarm.ir.operators import ACTIVATIONS, Attribute
from iosfarm.kernels.cuda import catalogue
from iosfarm.kernels.torch_operators import bind

pytestmark = needs_compiler

LARGE = [0.0, 1e-30, 1e-4, 3.0, 19.9, 20.1, 88.0, 104.0, 1e4, 1e30]
# Functions that neither overflow in float32 where they do not in float64, nor take positive numbers only.
BOUNDED = ["abs", "erf", "softplus", "mish", "selu", "softsign", "log_sigmoid", "gelu_tanh", "floor", "ceil"]

NOT_NUMBERS: list[tuple[str, dict[str, Attribute]]] = [
    *((kind, {}) for kind in ACTIVATIONS),
    ("max_pool", {"kernel": (3, 3), "padding": (1, 1)}),
    ("max_pool", {"kernel": (2, 3)}),
    ("avg_pool", {"kernel": (3, 3)}),
    ("global_max_pool", {}),
    ("adaptive_max_pool", {"output_size": (2, 3)}),
    ("clamp", {"min": -1.0, "max": 1.0}),
    ("reduce", {"function": "max", "axes": (2, 3)}),
    ("reduce", {"function": "min", "axes": (1,)}),
    ("softmax", {"axis": 1}),
    ("add", {"activation": "relu"}),
    ("conv2d", {"out_channels": 5, "kernel": (3, 3), "padding": (1, 1), "bias": False, "activation": "relu6"}),
]


def both(
    kind: str, attributes: dict[str, Attribute], x: torch.Tensor, dtype: str = "float32"
) -> tuple[torch.Tensor, torch.Tensor]:
    """(ours, PyTorch's in float64) on one tensor; weights are ones."""
    op = operator(kind, **attributes)
    shape = tuple(x.shape)
    weights = {"weight": torch.ones(5, 4, 3, 3, dtype=torch.float64)} if kind == "conv2d" else {}
    expected = bind(kind, op.attributes, weights)(x.clone())
    buffers = {"input0": to_bytes(in_memory(x), dtype)}
    axes = catalogue.parameter_axes(op, [shape])
    buffers |= {name: to_bytes(value.permute(axes[name]), dtype) for name, value in weights.items()}
    size = 4 if dtype == "float32" else 2
    content = execute(catalogue.launches(op, [shape], dtype), buffers, expected.numel() * size)
    return of_memory(from_bytes(content, dtype, [expected.numel()]), tuple(expected.shape)), expected


@pytest.mark.parametrize("kind", [*ACTIVATIONS, *BOUNDED])
def test_far_from_zero(kind: str) -> None:
    x = torch.tensor([LARGE, [-value for value in LARGE]]).double()
    attributes: dict[str, Attribute] = {} if kind in ACTIVATIONS else {"function": kind}
    ours, expected = both(kind if kind in ACTIVATIONS else "unary", attributes, x)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("kind", "attributes"), NOT_NUMBERS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_not_a_number_stays_so(kind: str, attributes: dict[str, Attribute], dtype: str) -> None:
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0, 1, 2, 3] = torch.nan
    x[1, 0, 0, 0] = torch.inf
    x[1, 2, 4, 5] = -torch.inf
    ours, expected = both(kind, attributes, x, dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
