"""Sections of the GPU check that need CUDA, on stand-ins for a GPU and for cuDNN: that they run, and what they tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import stand_in_cudnn
import torch
from host_gpu import HostGpu
from host_kernels import needs_compiler

import iosfarm
from iosfarm.farm.gpu_check import numerics, probes, sanitizer, torch_baselines
from iosfarm.farm.gpu_check.context import Context
from iosfarm.farm.gpu_check.rows import Rows
from iosfarm.ir.errors import UsageError
from iosfarm.kernels.cuda import opening
from iosfarm.kernels.cuda.options import parse_spec
from iosfarm.kernels.reference import run_graph
from iosfarm.workers.random_weights import random_weights

pytestmark = needs_compiler


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Context]:
    """A check of `cuda`, which opens the stand-ins; it tries one plan of each choice."""
    import iosfarm.kernels.cuda.providers as package
    from iosfarm.ir.plan import PlanScope
    from iosfarm.kernels.cuda.execution.lane import Lanes
    from iosfarm.kernels.cuda.providers.plan_cache import PlanCache
    from iosfarm.kernels.cuda.providers.trials import Trials

    monkeypatch.setitem(sys.modules, "cudnn", stand_in_cudnn)
    for name in ("cudnn_graph", "cudnn_provider"):
        monkeypatch.delitem(sys.modules, f"iosfarm.kernels.cuda.providers.{name}", raising=False)
        monkeypatch.delattr(package, name, raising=False)

    def parts(text: str) -> tuple[object, ...]:
        spec = parse_spec(text)
        if (spec.provider, spec.precision) == ("cudnn", "tf32"):
            raise UsageError("no TF32 here")
        gpu = stand_in_cudnn.gpu = HostGpu()
        lanes = Lanes(gpu)
        trials = Trials(gpu, lanes.home, PlanCache(None, PlanScope("")), 1)
        if spec.provider == "iosfarm":
            return gpu, lanes, None, trials, spec
        from iosfarm.kernels.cuda.providers.cudnn_provider import CudnnProvider

        return gpu, lanes, CudnnProvider(gpu, trials, spec.precision), trials, spec

    monkeypatch.setattr(opening, "open_parts", parts)
    yield Context("cuda", tmp_path, "", time.monotonic() + 600, Rows(tmp_path / "rows.json"), ("sample",))
    for name in ("cudnn_graph", "cudnn_provider"):
        sys.modules.pop(f"iosfarm.kernels.cuda.providers.{name}", None)


def test_probes_answer_every_question(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SHAPES", ((6, 5, 4, 3),))
    probes.run(context)
    first, *rows = context.rows.rows
    assert first["provider"] == "cudnn"
    questions = {row["question"] for row in rows}
    assert questions >= {"all fused", "bias fused", "none fused", "nchw", "strided output", "sm_count 2"}
    assert all(row["supported"] and row["seconds"] > 0 for row in rows if row["plans"])


def test_probes_tell_what_is_not_supported(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SHAPES", ((6, 5, 4, 3),))
    monkeypatch.setattr(stand_in_cudnn, "refused", {"relu"})
    probes.run(context)
    refused = [row for row in context.rows.rows if row.get("supported") is False and "reason" in row]
    assert {row["question"] for row in refused} >= {"all fused", "nchw"}


def test_numerics_of_every_variant(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "LARGEST", 2e5)
    monkeypatch.setattr(numerics, "NETWORKS", ("sample", "squeezenet"))
    few = list(numerics._distinct_units())[:2]
    monkeypatch.setattr(numerics, "_distinct_units", lambda: iter(few))
    numerics.operators(context)
    rows = context.rows.rows
    assert [row["skipped"] for row in rows if "skipped" in row] == ["no TF32 here"]
    errors = [row for row in rows if "error" in row]
    assert {(r["provider"], r["dtype"]) for r in errors} >= {("cudnn", "float32"), ("iosfarm", "bfloat16")}
    assert all(row["within"] for row in errors)
    assert len([row for row in rows if "stages" in row]) == len(numerics.VARIANTS) - 1


def test_what_the_sanitizer_runs(context: Context) -> None:
    sanitizer.execute("cuda?provider=iosfarm", ["float32"])


def test_the_sanitizer_s_tools_keep_no_plans(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "compute-sanitizer"
    program.write_text('#!/bin/sh\necho "$XDG_CACHE_HOME $@"\nexit 9\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    sanitizer.run(context)
    rows = context.rows.rows
    assert [(row["tool"], row["clean"], row["code"]) for row in rows] == [(t, False, 9) for t in sanitizer.TOOLS]
    for row in rows:
        assert row["end"].startswith(f"{tmp_path}/work/cache --tool {row['tool']}")
        assert row["end"].rstrip().endswith("iosfarm.farm.gpu_check.sanitizer cuda?provider=iosfarm")


def test_options_are_put_into_the_spec(context: Context) -> None:
    assert context.spec() == "cuda"
    assert context.spec(provider="iosfarm", timing="streams") == "cuda?provider=iosfarm&timing=streams"


def test_the_network_that_torch_runs_is_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_baselines, "_on_gpu", lambda tensor, dtype: tensor.to(dtype))
    graph = iosfarm.load("sample")
    inputs = [torch.randn(graph.shape(item.name)) for item in graph.inputs]
    actual = torch_baselines._network(graph, torch.float64)(*[i.double() for i in inputs])
    expected = run_graph(graph, random_weights(graph), [i.numpy() for i in inputs])
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), e, rtol=1e-9)
    assert list(torch_baselines.torch_baselines(graph, 1.0)) == []  # no GPU
