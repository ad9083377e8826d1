"""The shim itself: what a GPU would not forgive, it must not either."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from host_kernels import HostError, execute, needs_compiler, to_bytes, without_barrier
from operator_on_host import TOLERANCES, error, operator

from iosfarm.ir.operators import Attribute, Shape
from iosfarm.kernels.cuda import catalogue
from iosfarm.kernels.cuda.catalogue import Launch, Pointer, source_text
from iosfarm.kernels.cuda.catalogue.sources import SOURCES
from iosfarm.kernels.cuda.catalogue.tensors import ELEMENTS

pytestmark = needs_compiler

THREADS = 64
NEXT_NEIGHBOUR = """
extern "C" __global__ void test(float* out) {
    __shared__ float values[64];
    values[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = values[(threadIdx.x + 1) % 64];
}
"""


def run(text: str, count: int = THREADS) -> np.ndarray:
    """What a kernel `test(float* out)` writes, one block of threads."""
    launch = Launch("test", "test.cu", (), (1, 1, 1), (THREADS, 1, 1), (Pointer("output"),))
    return execute([launch], {}, 4 * count, texts={"test.cu": text}).view(np.float32)


def body(statements: str) -> str:
    """A kernel of these statements."""
    return f'extern "C" __global__ void test(float* out) {{ {statements} }}'


def test_threads_see_what_others_wrote_before_a_barrier() -> None:
    np.testing.assert_array_equal(run(NEXT_NEIGHBOUR), (np.arange(THREADS) + 1) % THREADS)


def test_a_missing_barrier_shows() -> None:
    assert np.isnan(run(without_barrier(NEXT_NEIGHBOUR, 0))).any()


def test_lanes_exchange_values() -> None:
    values = run(body("out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (float)threadIdx.x, 5);"))
    np.testing.assert_array_equal(values, np.arange(THREADS) ^ 5)


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ("if (threadIdx.x < 7) __syncthreads(); out[threadIdx.x] = 0;", "same barrier"),
        ("if (threadIdx.x < 7) __syncthreads();\nelse\n__syncthreads();", "same barrier"),
        ("if (threadIdx.x == 3) return; out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);", "same barrier"),
        ("out[threadIdx.x + 1] = 0;", "outside of output"),
        ("out[(int)threadIdx.x - 1] = 0;", "outside of output"),
        ("struct alignas(8) Two { float x, y; }; *(Two*)(out + 1) = Two{0, 0};", "misaligned"),
        ("float few[4] = {}; out[0] = few[threadIdx.x];", "outside of its array"),
        ("int large = 2147483647; out[0] = large + (int)threadIdx.x;", "overflows"),
    ],
)
def test_what_a_gpu_does_not_forgive_is_an_error(statements: str, message: str) -> None:
    with pytest.raises(HostError, match=message):
        run(body(statements))


def test_a_kernel_must_not_write_to_its_inputs() -> None:
    text = 'extern "C" __global__ void test(float* in) { in[threadIdx.x] = 1; }'
    launch = Launch("test", "test.cu", (), (1, 1, 1), (THREADS, 1, 1), (Pointer("input0"),))
    with pytest.raises(HostError, match="wrote to input0"):
        execute([launch], {"input0": np.zeros(4 * THREADS, np.uint8)}, 4, texts={"test.cu": text})


def conversion(count: int) -> Launch:
    """Of so many elements, each by a block."""
    return Launch("test", "test.cu", (), (count, 1, 1), (1, 1, 1), (Pointer("input0"), Pointer("output")))


def converting(source: str, target: str) -> dict[str, str]:
    """A kernel from one element type to another."""
    body = "from_float(to_float(in[blockIdx.x]), out[blockIdx.x]);"
    kernel = f'extern "C" __global__ void test(const {source}* in, {target}* out) {{ {body} }}'
    return {"test.cu": (SOURCES / "element.cuh").read_text().replace("#pragma once", "") + kernel}


def test_half_types_round_as_torch_does() -> None:
    tie = torch.tensor([1 + 2.0**-11, 1 + 3 * 2.0**-11, 65519.0, 65520.0, 2.0**-25, 3 * 2.0**-26, 2.0**-24, 0.0, -0.0])
    rng = np.random.default_rng(0)
    random = torch.from_numpy((rng.standard_normal(500) * 2.0 ** rng.integers(-30, 20, 500)).astype(np.float32))
    values = torch.cat([tie, -tie, random, torch.tensor([torch.inf, -torch.inf])])
    for dtype in ("float16", "bfloat16"):
        element, count = ELEMENTS[dtype], len(values)
        content = execute(
            [conversion(count)], {"input0": to_bytes(values, "float32")}, 2 * count, texts=converting("float", element)
        )
        np.testing.assert_array_equal(content, to_bytes(values, dtype))
        back = execute([conversion(count)], {"input0": content}, 4 * count, texts=converting(element, "float"))
        np.testing.assert_array_equal(back, to_bytes(values.to(getattr(torch, dtype)), "float32"))


# (operator, attributes, shape of its input)
BARRIERS: list[tuple[str, dict[str, Attribute], Shape]] = [
    ("conv2d", {"out_channels": 40, "kernel": (3, 3)}, (1, 12, 7, 7)),
    ("global_avg_pool", {}, (2, 12, 9, 9)),
    ("softmax", {}, (2, 600)),
    ("layer_norm", {"shape": (600,)}, (2, 600)),
    ("reduce", {"axes": (1,)}, (2, 600)),
    ("linear", {"out_features": 40}, (1, 3, 40, 70)),
    ("flatten", {}, (2, 12, 5, 9)),
]


@pytest.mark.parametrize(("dtype", "limit"), [("float16", 1e-2), ("float32", 2e-3)])
def test_every_barrier_of_tensor_cores_is_needed(dtype: str, limit: float) -> None:
    op, shape = operator("conv2d", out_channels=40, kernel=(3, 3), padding=(1, 1)), (1, 16, 7, 7)
    launches = catalogue.alternatives(op, [shape], dtype, most=1, tensor=True)[0]
    assert "-DTENSOR_CORE=1" in launches[0].options
    text = source_text(launches[0].source)
    assert error(op, [shape], dtype, launches=launches) <= limit
    for number in range(text.count("__syncthreads()")):
        mutant = {launches[0].source: without_barrier(text, number)}
        errors = [error(op, [shape], dtype, seed=seed, launches=launches, texts=mutant) for seed in range(3)]
        assert max(errors) > limit, f"barrier {number}"


@pytest.mark.parametrize(("kind", "attributes", "shape"), BARRIERS, ids=[kind for kind, _, _ in BARRIERS])
def test_every_barrier_of_the_kernels_is_needed(kind: str, attributes: dict[str, Attribute], shape: Shape) -> None:
    op = operator(kind, **attributes)
    launches = catalogue.launches(op, [shape], "float32")
    text = source_text(launches[0].source)
    assert error(op, [shape], "float32") <= TOLERANCES["float32"]
    for number in range(text.count("__syncthreads()")):
        mutant = {launches[0].source: without_barrier(text, number)}
        errors = [error(op, [shape], "float32", seed=seed, texts=mutant) for seed in range(3)]
        assert max(errors) > TOLERANCES["float32"], f"barrier {number} of {launches[0].source}"
