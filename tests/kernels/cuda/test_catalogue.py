"""The kernel catalogue as data: what it launches, what it refuses, and in which words."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from host_kernels import needs_compiler
from numerics_cases import CASES, Case
from operator_on_host import TOLERANCES, WITH_KERNEL, WITHOUT_KERNEL, error, operator, separable_error, shapes_of

from iosfarm.ir.errors import GraphError, Infeasible, UsageError
from iosfarm.ir.nodes import Operator
from iosfarm.ir.operators import ACTIVATIONS, SPECS, Attribute, Shape, spec
from iosfarm.kernels.cuda import catalogue
from iosfarm.kernels.cuda.catalogue import Launch, Pointer
from iosfarm.kernels.cuda.catalogue.tiling import TILES, tilings
from iosfarm.zoo import load

CONV: dict[str, Attribute] = {"out_channels": 64, "kernel": (3, 3)}
DTYPES = ["float32", "float16", "bfloat16"]


def test_the_cases_cover_every_operator() -> None:
    assert {case.kind for case in CASES} == set(SPECS)
    assert {case.kind for case in WITH_KERNEL} == set(SPECS) - WITHOUT_KERNEL


@pytest.mark.parametrize("case", [case for case in CASES if case not in WITH_KERNEL], ids=lambda case: case.name)
def test_an_operator_without_a_kernel_is_infeasible_here(case: Case) -> None:
    with pytest.raises(Infeasible, match=f"^{case.kind}: .*no CUDA kernel"):
        catalogue.launches(operator(case.kind, **case.attributes), shapes_of(case), "float32")


def check_launch(launch: Launch, op: Operator, shapes: list[Shape]) -> None:
    """A launch that CUDA takes, of buffers that the caller has."""
    assert launch.source in catalogue.source_names()
    text = catalogue.source_text(launch.source)
    found = re.search(rf'extern "C" __global__ void[^(]*(?:\([^)]*\)\s+)?\b{launch.kernel}\(([^)]*)\)', text)
    assert found, launch.kernel
    assert len(found[1].split(",")) == len(launch.arguments)
    assert 1 <= launch.grid[0] < 2**31
    assert all(1 <= size < 2**16 for size in launch.grid[1:])
    threads = launch.block[0] * launch.block[1] * launch.block[2]
    assert 1 <= threads <= 1024
    parameters = spec(op.kind).parameters(op.attributes, shapes)
    known = {*parameters, "output", "null", "residual", "scratch", *(f"input{i}" for i in range(len(shapes)))}
    for argument in launch.arguments:
        if isinstance(argument, Pointer):
            assert argument.name in known
            assert (argument.name == "scratch") <= (launch.scratch_bytes > 0)
        elif argument.kind == "int32":
            assert -(2**31) <= argument.value < 2**31


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", WITH_KERNEL, ids=lambda case: case.name)
def test_launches_are_what_cuda_takes(case: Case, dtype: str) -> None:
    op, shapes = operator(case.kind, **case.attributes), shapes_of(case)
    ways = catalogue.alternatives(op, shapes, dtype)
    assert ways[0] == catalogue.launches(op, shapes, dtype)
    for way in ways:
        assert way
        for launch in way:
            check_launch(launch, op, shapes)


def test_the_catalogue_loads_neither_torch_nor_a_gpu_library() -> None:
    code = (
        "import sys, iosfarm.kernels.cuda.catalogue; print([n for n in ('torch', 'cupy', 'ray') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_activation_codes_are_those_of_the_kernels() -> None:
    found = re.search(r"enum Activation \{([^}]*)\}", catalogue.source_text("activation.cu"))
    assert found
    assert [name.strip().lower() for name in found[1].split(",")] == ["none", *ACTIVATIONS]


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "attributes", "shapes", "message"),
    [
        ("conv2d", CONV, [(1, 0, 8, 8)], "has no elements"),
        ("relu", {}, [(0, 3, 8, 8)], "has no elements"),
        ("conv2d", {**CONV, "out_channels": 0}, [(1, 3, 8, 8)], "out_channels and groups must be at least 1"),
        ("conv2d", {**CONV, "kernel": (9, 3)}, [(1, 3, 8, 8)], "a window of 9 is larger than the padded input of 8"),
        ("max_pool", {"kernel": (9, 9)}, [(1, 3, 8, 8)], "a window of 9 is larger than the padded input of 8"),
        ("linear", {"out_features": 4}, [(4,)], "linear needs an input of"),
        ("nonsense", {}, [(1, 3)], "unknown operator 'nonsense'"),
    ],
)
def test_operators_that_cannot_be(
    kind: str, attributes: dict[str, Attribute], shapes: list[Shape], message: str
) -> None:
    full = SPECS[kind].normalise(attributes, kind) if kind in SPECS else attributes
    with pytest.raises(GraphError, match=re.escape(message)) as caught:
        catalogue.launches(Operator(kind, kind, (), full), shapes, "float32")
    assert "\n" not in str(caught.value)
    assert kind in str(caught.value)


HUGE = (2**15, 2**6, 2**5, 2**5)  # 2**31 elements
FITS = (2**15 - 1, 2**6, 2**5, 2**5)


@pytest.mark.parametrize(
    ("kind", "attributes", "shapes"),
    [
        ("relu", {}, [HUGE]),
        ("add", {}, [HUGE, HUGE]),
        ("conv2d", {**CONV, "padding": (1, 1)}, [HUGE]),
        ("conv2d", {**CONV, "out_channels": 2**17, "kernel": (1, 1)}, [(2**14, 8, 2, 2)]),  # the output is too large
        ("conv2d", {**CONV, "out_channels": 2**16, "kernel": (8, 8)}, [(1, 2**9, 8, 8)]),  # the weights are
        ("linear", {"out_features": 2**16}, [(1, 2**15)]),
        ("concat", {}, [(2**14, 2**6, 2**5, 2**5)] * 2),
        ("resize", {"size": (2**16, 2**16)}, [(1, 1, 2, 2)]),
        ("resize", {"size": (2**16, 1), "mode": "bilinear"}, [(1, 1, 2**15, 1)]),
        ("pad", {"padding": (2**30, 2**30, 0, 0)}, [(1, 1, 2, 2)]),
        ("adaptive_avg_pool", {"output_size": (2**16, 1)}, [(1, 1, 2**16, 1)]),
        ("avg_pool", {"kernel": (2**16, 2**16), "padding": (2**15, 2**15)}, [(1, 1, 2, 2)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_too_large_for_32_bits_is_refused(
    kind: str, attributes: dict[str, Attribute], shapes: list[Shape]
) -> None:
    with pytest.raises(Infeasible, match="too large for the CUDA kernels, which index with 32 bits") as caught:
        catalogue.launches(operator(kind, **attributes), shapes, "float32")
    assert str(caught.value).startswith(f"{kind}: ")


def test_the_largest_tensor_that_fits_is_taken() -> None:
    op = operator("relu")
    check_launch(catalogue.launches(op, [FITS], "float16")[0], op, [FITS])


def test_a_product_whose_last_tile_would_end_beyond_32_bits() -> None:
    op = operator("conv2d", out_channels=1, kernel=(1, 1))
    with pytest.raises(Infeasible, match="32 bits"):
        catalogue.launches(op, [(1, 1, 2**31 - 1, 1)], "float16")
    catalogue.launches(op, [(1, 1, 2**31 - 200, 1)], "float16")


def test_a_grid_that_cuda_does_not_have() -> None:
    op = operator("conv2d", out_channels=2**17, kernel=(1, 1), groups=2**16)
    with pytest.raises(Infeasible, match="larger grid"):
        catalogue.launches(op, [(1, 2**17, 1, 1)], "float32")


def test_other_misuse() -> None:
    with pytest.raises(UsageError, match="unknown dtype 'float64'"):
        catalogue.launches(operator("relu"), [(1, 2)], "float64")
    with pytest.raises(ValueError, match="relu takes no residual"):
        catalogue.launches(operator("relu"), [(1, 2)], "float32", residual=True)
    with pytest.raises(Infeasible, match="5 axes"):
        catalogue.launches(operator("add"), [(1, 2, 1, 1, 1), (1, 2, 3, 1, 1)], "float32")


# -- choices -----------------------------------------------------------------------------------------------------------


@needs_compiler
def test_every_alternative_computes_the_same() -> None:
    op, shapes = operator("conv2d", **CONV, activation="relu"), [(1, 96, 7, 8)]
    ways = catalogue.alternatives(op, shapes, "float32")
    assert len(ways) == len({way[0] for way in ways}) == 4
    for way in ways:
        assert error(op, shapes, "float32", launches=way) <= TOLERANCES["float32"]


def test_tiles_fit_the_work() -> None:
    whole, few, long = tilings(1 << 20, 512, 512, 1)[0], tilings(49, 64, 64, 1)[0], tilings(49, 64, 8192, 1)[0]
    assert (whole.tile, whole.splits) == (TILES[0], 1)
    assert few.tile == TILES[-1]
    assert long.splits > 1


def test_only_a_depthwise_and_a_pointwise_convolution_are_separable() -> None:
    shape = (1, 8, 6, 6)
    depthwise = operator("conv2d", out_channels=8, kernel=(3, 3), padding=(1, 1), groups=8)
    pointwise = operator("conv2d", out_channels=12, kernel=(1, 1))
    assert catalogue.separable(depthwise, pointwise, shape, "float32")
    for first, second in (
        (pointwise, pointwise),
        (depthwise, depthwise),
        (depthwise, operator("relu")),
        (operator("conv2d", out_channels=16, kernel=(3, 3), groups=8), pointwise),
        (depthwise, operator("conv2d", out_channels=12, kernel=(1, 1), stride=(2, 2))),
        (depthwise, operator("conv2d", out_channels=12, kernel=(1, 1), groups=4)),
    ):
        assert catalogue.separable(first, second, shape, "float32") is None


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_separable_unit_in_every_dtype(dtype: str) -> None:
    depthwise = operator("conv2d", out_channels=24, kernel=(5, 5), padding=(2, 2), groups=24, activation="relu6")
    pointwise = operator("conv2d", out_channels=36, kernel=(1, 1), activation="silu")
    assert separable_error((depthwise, pointwise), (2, 24, 7, 6), dtype, before="hard_swish") <= TOLERANCES[dtype]


def test_views_need_no_kernel() -> None:
    assert catalogue.is_view(operator("dropout"), [(1, 8, 5, 5)])
    assert catalogue.is_view(operator("flatten"), [(2, 8, 1, 1)])
    assert not catalogue.is_view(operator("flatten"), [(2, 8, 5, 1)])
    assert not catalogue.is_view(operator("relu"), [(2, 8, 1, 1)])


@needs_compiler
def test_attributes_of_one_tap_do_not_overflow() -> None:
    op = operator("conv2d", out_channels=4, kernel=(1, 3), dilation=(2**31 - 1, 1), groups=4)
    assert error(op, [(1, 4, 3, 5)], "float32") <= TOLERANCES["float32"]
    op = operator("conv2d", out_channels=4, kernel=(3, 1), dilation=(1, 2**31 - 1))
    assert error(op, [(1, 4, 3, 5)], "float32") <= TOLERANCES["float32"]


@pytest.mark.parametrize("name", ["squeezenet", "inception_v3", "randwire", "nasnet_large"])
def test_the_networks_of_the_paper_have_kernels(name: str) -> None:
    graph = load(name)
    seen = set()
    for op in graph.operators:
        shapes = graph.input_shapes(op)
        key = (op.kind, tuple(sorted(op.attributes.items())), tuple(shapes))
        if key in seen:
            continue
        seen.add(key)
        for dtype in ("float32", "bfloat16"):
            for way in catalogue.alternatives(op, shapes, dtype):
                for launch in way:
                    check_launch(launch, op, shapes)
