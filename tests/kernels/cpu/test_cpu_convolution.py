"""Prepared convolutions compute what torch's do, on any number of threads, whoever prepares them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.ir.operators import ACTIVATIONS, FUSED_ACTIVATIONS
from iosfarm.kernels.cpu import runtime as cpu_runtime
from iosfarm.kernels.cpu.operators import concatenation, convolution, onednn, pooling, sums, torch_convolution
from iosfarm.kernels.cpu.operators.convolution import prepared_convolution
from iosfarm.kernels.cpu.operators.onednn import FUSED, Handle, OneDnn
from iosfarm.kernels.cpu.runtime import CpuRuntime
from iosfarm.kernels.cpu.streams import intra_op_threads
from iosfarm.kernels.torch_operators import bind

from numerics_cases import CASES, Case, graph_weights  # isort: skip - of the folder above

CONVOLUTIONS = [case for case in CASES if case.kind == "conv2d"]
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
needs_onednn = pytest.mark.skipif(onednn.onednn() is None, reason=f"{onednn.PACKAGE} is not installed")


def example(case: Case, dtype: torch.dtype = torch.float32) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The weights of a case and an input, channels last."""
    graph, rng = case.graph(), np.random.default_rng(6)
    (operator,) = graph.operators
    values = graph_weights(graph, rng)
    weights = {name: torch.from_numpy(values[f"{operator.name}.{name}"]) for name in graph.parameters(operator)}
    x = torch.from_numpy(rng.standard_normal(graph.shape(graph.inputs[0].name), dtype=np.float32))
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    return {name: tensor.to(dtype) for name, tensor in weights.items()}, x


@pytest.fixture
def without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (concatenation, convolution, pooling, sums, cpu_runtime):
        monkeypatch.setattr(module, "onednn", lambda: None)


def check(case: Case, dtype: torch.dtype, *, others: bool) -> None:
    (operator,) = case.graph().operators
    weights, x = example(case, dtype)
    expected = bind("conv2d", operator.attributes, {name: w.double() for name, w in weights.items()})(x.double())
    for threads in (1, 2):
        with intra_op_threads(threads), torch.inference_mode():
            function = prepared_convolution(operator.attributes, weights, tuple(x.shape))
            assert (function is None) == others
            if function is not None:
                result = function(x)
                assert result.dtype == dtype
                assert result.is_contiguous(memory_format=torch.channels_last)
                assert (result - expected).abs().max() <= TOLERANCES[dtype] * expected.abs().max()


@needs_onednn
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: case.name)
def test_onednn_computes_what_torch_does(case: Case, dtype: torch.dtype) -> None:
    if dtype != torch.float32:
        (operator,) = case.graph().operators
        weights, x = example(case, dtype)
        if prepared_convolution(operator.attributes, weights, tuple(x.shape)) is None:
            pytest.skip(f"oneDNN has no {dtype} on this CPU")
    check(case, dtype, others=False)


@pytest.mark.usefixtures("without_onednn")
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: case.name)
def test_so_does_what_stands_in_for_it(case: Case) -> None:
    (operator,) = case.graph().operators
    check(case, torch.float32, others=operator.attributes["activation"] == "gelu")


@needs_onednn
@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {name: st.tuples(st.integers(1, most), st.integers(1, most)) for name, most in (("stride", 3), ("dilation", 3))}
    ),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.sampled_from([(1, 1, 1), (1, 3, 17), (1, 33, 7), (2, 1, 3), (5, 1, 1), (19, 1, 2), (4, 5, 8)]),
    st.integers(1, 3),
    st.sampled_from(FUSED_ACTIVATIONS),
    st.booleans(),
)
def test_any_convolution(
    steps: dict[str, tuple[int, int]],
    kernel: tuple[int, int],
    padding: tuple[int, int],
    beyond: tuple[int, int],
    channels: tuple[int, int, int],
    batch: int,
    activation: str,
    bias: bool,
) -> None:
    groups, read, made = channels
    reach = [d * (k - 1) + 1 for d, k in zip(steps["dilation"], kernel, strict=True)]
    size = [max(1, r - 2 * p) + b for r, p, b in zip(reach, padding, beyond, strict=True)]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, groups * read, *size, generator=generator).contiguous(memory_format=torch.channels_last)
    weights = {"weight": torch.randn(groups * made, read, *kernel, generator=generator)}
    if bias:
        weights["bias"] = torch.randn(groups * made, generator=generator)
    attributes = {**steps, "padding": padding, "groups": groups, "bias": bias, "activation": activation}
    expected = bind("conv2d", attributes, {name: w.double() for name, w in weights.items()})(x.double())
    with torch.inference_mode():
        function = prepared_convolution(attributes, weights, tuple(x.shape))
        assert function is not None
        result = function(x)
    assert result.shape == expected.shape
    assert torch.allclose(result.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("provider", [pytest.param("onednn", marks=needs_onednn), "torch"])
def test_weights_are_copied(provider: str, request: pytest.FixtureRequest) -> None:
    if provider == "torch":
        request.getfixturevalue("without_onednn")
    weights, x = example(CONVOLUTIONS[1])
    (operator,) = CONVOLUTIONS[1].graph().operators
    with torch.inference_mode():
        function = prepared_convolution(operator.attributes, weights, tuple(x.shape))
        assert function is not None
        before = function(x)
        weights["weight"].zero_()
        weights["bias"].zero_()
        assert torch.equal(function(x), before)


def of_case(number: int) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    weights, x = example(CONVOLUTIONS[number])
    (operator,) = CONVOLUTIONS[number].graph().operators
    function = prepared_convolution(operator.attributes, weights, tuple(x.shape))
    assert function is not None
    return function, x


@needs_onednn
def test_inputs_in_another_format_are_rearranged_and_others_refused() -> None:
    function, x = of_case(1)
    expected = function(x)
    assert torch.equal(function(x.contiguous()), expected)
    with pytest.raises(ValueError, match="an input of"):
        function(x[:, :, 1:])
    with pytest.raises(ValueError, match="bfloat16"):
        function(x.bfloat16())


@needs_onednn
def test_different_convolutions_on_threads_side_by_side() -> None:
    with intra_op_threads(1), torch.inference_mode():
        prepared = [of_case(number) for number in range(8)]
        expected = [function(x) for function, x in prepared]

    def work(number: int) -> bool:
        torch.set_num_threads(1)
        function, x = prepared[number]
        return all(torch.equal(function(x), expected[number]) for _ in range(50))

    before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
    torch.set_num_threads(before)


@needs_onednn
def test_what_is_made_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"made": 0, "ended": 0}
    begin, end = Handle.__init__, Handle.__del__

    def made(self: Handle, *arguments: object, **named: object) -> None:
        counts["made"] += 1
        begin(self, *arguments, **named)  # type: ignore[arg-type]

    def ended(self: Handle) -> None:
        counts["ended"] += 1
        end(self)

    monkeypatch.setattr(Handle, "__init__", made)
    monkeypatch.setattr(Handle, "__del__", ended)
    function, x = of_case(1)
    function(x)
    assert counts["made"] > counts["ended"]
    del function
    assert counts["made"] == counts["ended"] > 10


@pytest.mark.parametrize("without", ["the package", "its file", "shared threads", "a known version"])
def test_a_library_that_does_not_fit_is_left_alone(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if without == "the package":
        monkeypatch.setattr(onednn, "PACKAGE", "no-such-package")
    elif without == "its file":
        monkeypatch.setattr(onednn, "files", lambda _: [])
    elif without == "shared threads":
        monkeypatch.setattr(OneDnn, "threads", lambda _: 77)
    else:
        monkeypatch.setattr(onednn, "MAJOR", 4)
    assert onednn.onednn.__wrapped__() is None


@pytest.mark.usefixtures("without_onednn")
@pytest.mark.parametrize("without", ["other dtypes", "oneDNN"])
def test_what_is_left_to_torch(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (operator,) = CONVOLUTIONS[1].graph().operators
    weights, x = example(CONVOLUTIONS[1])
    if without == "oneDNN":
        monkeypatch.setattr(torch_convolution, "_available", lambda: False)
    else:
        weights = {name: tensor.bfloat16() for name, tensor in weights.items()}
    assert prepared_convolution(operator.attributes, weights, tuple(x.shape)) is None


def test_every_activation_is_fused_or_left_to_torch() -> None:
    assert set(torch_convolution._FUSED) == set(FUSED) <= {"none", *ACTIVATIONS}


@needs_onednn
def test_the_environment_names_the_provider(request: pytest.FixtureRequest) -> None:
    release = torch.__version__.split("+")[0]
    with closing(CpuRuntime()) as runtime:
        _, environment = runtime.fingerprint()
        library = onednn.onednn()
        assert library is not None
        assert [environment.hard[n] for n in ("provider", "provider_version", "torch")] == [
            "onednn",
            library.version,
            release,
        ]
    request.getfixturevalue("without_onednn")
    with closing(CpuRuntime()) as runtime:
        _, other = runtime.fingerprint()
        assert [other.hard[n] for n in ("provider", "provider_version", "torch")] == ["torch", release, release]
    assert other.hard_key != environment.hard_key


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with intra_op_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    runtime = CpuRuntime()
    graph = CONVOLUTIONS[0].graph()
    with runtime.prepare(CONVOLUTIONS[0].stage(runtime.layout)) as executable:
        assert len(executable.run()) == len(graph.outputs)
    runtime.close()
    assert torch.get_num_threads() == before
