"""The CUDA kernels, executed on the CPU: every operator and every corner of its attributes against float64."""

from __future__ import annotations

import pytest
from host_kernels import needs_compiler
from numerics_cases import CASES, Case
from operator_on_host import TOLERANCES, error, operator

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operator_computes_what_the_reference_does(case: Case, dtype: str) -> None:
    op = operator(case.kind, **case.attributes)
    assert error(op, [(case.batch, *shape) for shape in case.inputs], dtype) <= TOLERANCES[dtype]
