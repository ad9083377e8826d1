"""ONNX's own tests of single operators: what of them is imported computes what ONNX says it does."""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.imported import Imported
from iosfarm.frontends.onnx import import_file
from iosfarm.kernels.reference import run_graph

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'iosfarm[onnx]'")

FAMILIES = (
    "attention", "averagepool", "basic_conv", "conv_with", "convtranspose", "constant_pad", "depthtospace", "dropout",
    "gather_elements", "gemm", "globalaveragepool", "gridsample", "instancenorm", "lrn", "maxpool", "mvn", "resize",
    "rms_normalization", "scatternd", "spacetodepth", "split", "upsample",
)  # fmt: skip
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

ROUNDED = re.compile("b?f(loat|p)?16")
"""Cases in half precision: what is expected of them is rounded after each operator, and we compute in float64."""

LEAST = {"convtranspose": 9, "gridsample": 12, "mvn": 2, "resize": 15, "rms_normalization": 6, "spacetodepth": 4}
"""So many have to be imported, at least."""


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None) if case.model is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_imported_is_right(family: str, cases: dict[str, Any], tmp_path: Path) -> None:
    right, wrong = 0, []
    for name, case in cases.items():
        if not name.startswith(f"test_{family}") or name.endswith("_expanded") or ROUNDED.search(name):
            continue
        given, expected = case.data_sets[0]
        found, inputs = _imported(case.model, given, tmp_path / "node.onnx")
        if found is None:
            continue
        outputs = run_graph(found.graph, found.weights, [np.asarray(x, np.float64) for x in inputs], torch.float64)
        ours = [outputs[place] for place in found.signature.outputs if isinstance(place, int)]
        if _close(ours, expected) or _close(ours, _second_opinion(case.model, given)):
            right += 1
        else:
            wrong.append(name)
    assert wrong == []
    assert right >= LEAST.get(family, 1)


def _close(ours: list[Any], expected: list[Any]) -> bool:
    """Whether all outputs are within 1e-4 of the largest number. A constant one is there for each item of a batch."""
    pairs = [(o[0] if o.ndim > values.ndim else o, values) for o, values in zip(ours, expected, strict=True)]
    scales = [float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0 for _, values in pairs]
    return all(
        o.shape == values.shape and np.allclose(o, values, rtol=0, atol=1e-4 * scale, equal_nan=True)
        for (o, values), scale in zip(pairs, scales, strict=True)
    )


def _second_opinion(model: Any, given: list[Any]) -> list[Any]:
    """What onnxruntime computes: a few expectations are of a few digits, or of a reading that it does not share."""
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return [np.full((), np.nan)] * len(model.graph.output)
    names = [item.name for item in session.get_inputs()]
    return list(session.run(None, dict(zip(names, given, strict=True))))


def _imported(model: Any, given: list[Any], path: Path) -> tuple[Imported | None, list[Any]]:
    """A case as it is, or with all inputs but the first as weights, and its inputs; None where neither is imported."""
    onnx.save(model, path)
    with contextlib.suppress(CannotImport):
        return import_file(path), given
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    names = [item.name for item in model.graph.input]
    for name, values in list(zip(names, given, strict=True))[1:]:
        fixed.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    del fixed.graph.input[1:]
    onnx.save(fixed, path)
    with contextlib.suppress(CannotImport):
        return import_file(path), given[:1]
    return None, []
