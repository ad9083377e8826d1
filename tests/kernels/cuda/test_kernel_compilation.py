"""Every CUDA source compiles for every generation of GPUs that is meant, and fits into it."""

from __future__ import annotations

import pytest
from kernel_variants import variants
from nvrtc import CompileError, Resources, compile_for, needs_nvrtc

from iosfarm.kernels.cuda.catalogue import source_names, source_text

pytestmark = needs_nvrtc

DTYPES = {"sm_75": ("float32", "float16"), "sm_80": ("float32", "bfloat16"), "sm_90": ("float32", "float16")}
"""Of each generation; the half types differ in how a number is loaded and stored, which the generations do alike."""
MAX_SHARED = 48 << 10  # of a block, without asking for more
REGISTERS = 64 << 10  # of a multiprocessor
MOST_THREADS = 256  # of a block, in the catalogue


def test_every_source_is_compiled() -> None:
    assert (
        sorted({source for dtype in ("float32", "float16", "bfloat16") for source, _ in variants(dtype)})
        == source_names()
    )


@pytest.mark.parametrize("source", source_names())
@pytest.mark.parametrize("architecture", DTYPES)
def test_a_source_compiles_and_fits(
    architecture: str, source: str, kernel_report: list[tuple[str, str, Resources]]
) -> None:
    for dtype in DTYPES[architecture]:
        if architecture == "sm_75" and dtype == "float16" and source not in ("convolution.cu", "separable.cu"):
            continue
        for options in (options for name, options in variants(dtype) if name == source):
            if architecture == "sm_75" and "-DTENSOR_CORE=1" in options and dtype != "float16":
                continue  # its tensor cores multiply nothing else
            for taken in compile_for(architecture, source_text(source), options):
                kernel_report.append((architecture, source, taken))
                assert taken.spilled == 0, (taken, options)
                assert taken.shared <= MAX_SHARED, (taken, options)
                assert taken.registers * MOST_THREADS <= REGISTERS, (taken, options)


def test_what_does_not_compile_is_reported() -> None:
    with pytest.raises(CompileError, match="undefined"):
        compile_for("sm_80", 'extern "C" __global__ void test(float* out) { *out = missing; }', ())


def test_spills_are_seen() -> None:
    # Bounded to 32 registers, with 64 values alive at a time: nothing can be done but to spill.
    body = " ".join(f"float v{i} = in[{i} * n];" for i in range(64))
    total = " ".join(f"out[{i} * n] = v{i} * v{63 - i};" for i in range(64))
    head = 'extern "C" __global__ void __launch_bounds__(1024, 2) test(const float* in, float* out, int n)'
    text = f"{head} {{ {body} __syncthreads(); {total} }}"
    (taken,) = compile_for("sm_80", text, ())
    assert taken.kernel == "test"
    assert taken.spilled > 0
