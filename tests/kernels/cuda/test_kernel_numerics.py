"""The CUDA kernels, executed on the CPU: every operator and every corner of its attributes against float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host_kernels import needs_compiler
from numerics_cases import POSITIVE, Case
from operator_on_host import TOLERANCES, WITH_KERNEL, error, operator, shapes_of

from iosfarm.kernels.cuda import catalogue

pytestmark = needs_compiler


def _first_of_each_kernel() -> Iterator[Case]:
    """Arithmetic is in float whatever the elements are: a half type needs one case of each kernel and operator."""
    seen = set()
    for case in WITH_KERNEL:
        if case.kind in ("leaky_relu", "elu", "gelu", "tanh") or "fused" in case.name:
            continue
        launches = catalogue.launches(operator(case.kind, **case.attributes), shapes_of(case), "float16")
        kernels = tuple(launch.kernel for launch in launches)
        if kernels not in seen:
            seen.add(kernels)
            yield case


@pytest.mark.parametrize("case", WITH_KERNEL, ids=lambda case: case.name)
def test_an_operator_computes_what_the_reference_does(case: Case) -> None:
    assert error(operator(case.kind, **case.attributes), shapes_of(case), "float32") <= TOLERANCES["float32"]


@pytest.mark.parametrize("case", POSITIVE, ids=lambda case: case.name)
def test_an_operator_on_positive_numbers(case: Case) -> None:
    op = operator(case.kind, **case.attributes)
    assert error(op, shapes_of(case), "float32", positive=True) <= TOLERANCES["float32"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", list(_first_of_each_kernel()), ids=lambda case: case.name)
def test_a_kernel_reads_and_writes_half_types(case: Case, dtype: str) -> None:
    assert error(operator(case.kind, **case.attributes), shapes_of(case), dtype) <= TOLERANCES[dtype]
