"""Graphs as ONNX models, for any runtime that reads them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iosfarm.deploy import onnx_operators, onnx_tensors
from iosfarm.deploy.onnx_operators import ACTIVATIONS
from iosfarm.deploy.onnx_writer import NodeWriter
from iosfarm.farm.output_files import OutputError
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph, Operator
from iosfarm.kernels.runtime import Weights

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8
"""That of opset 17: older runtimes refuse files of a newer one."""

MOST_BYTES = 2**31 - 2**24
"""A protobuf message ends at 2 GiB; weights beyond this go into a second file."""

_WRITERS = {**onnx_operators.WRITERS, **onnx_tensors.WRITERS}

KINDS = frozenset(_WRITERS)
"""The operators that can be written."""


def to_onnx(graph: Graph, weights: Weights) -> onnx.ModelProto:
    """An ONNX model of the same names, shapes inferred and checked; the batch size is the graph's.

    Raises:
        UsageError: onnx is not installed, or an operator or the dtype has no counterpart.
        KeyError: a weight is missing.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError:
        raise UsageError("the package onnx is not installed", hint="pip install 'iosfarm[onnx]'") from None
    for position, operator in enumerate(graph.operators):
        if operator.kind not in KINDS:
            where = f"{graph.name}: operator {position} {operator.name!r}"
            raise UsageError(f"{operator.kind} cannot be exported to ONNX", where=where, hint="export to torch")
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}.get(graph.dtype)
    if kind is None:
        what = f"ONNX has no convolutions in {graph.dtype} before opset 22, which few runtimes read"
        raise UsageError(what, where=graph.name, hint="use float32 or float16, or export to torch")
    writer = NodeWriter(graph, weights, np.dtype(helper.tensor_dtype_to_np_dtype(kind)))
    for operator in graph.operators:
        _write(writer, operator)
    inputs = {item.name for item in graph.inputs}
    outputs = []
    for number, name in enumerate(graph.outputs):
        # An output of an ONNX graph is made by a node, and by one only.
        again = name in inputs or name in graph.outputs[:number]
        outputs.append(writer.node("Identity", [name], f"{name}/output{number}") if again else name)
    proto = helper.make_graph(
        writer.nodes,
        graph.name,
        [helper.make_tensor_value_info(item.name, kind, graph.shape(item.name)) for item in graph.inputs],
        [helper.make_tensor_value_info(o, kind, graph.shape(n)) for o, n in zip(outputs, graph.outputs, strict=True)],
        writer.initializers,
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="iosfarm",
        producer_version=version("iosfarm"),
    )
    if model.ByteSize() < MOST_BYTES:
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    return model


def _write(writer: NodeWriter, operator: Operator) -> None:
    """Append an operator; its result has its name."""
    activation = str(operator.attributes.get("activation", "none"))
    if activation == "none":
        _WRITERS[operator.kind](writer, operator, operator.name)
    else:
        before = f"{operator.name}/{operator.kind}"
        _WRITERS[operator.kind](writer, operator, before)
        ACTIVATIONS[activation](writer, operator, before, operator.name)


def save_onnx(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write a model; weights that are too large for one file go beside it, to `NAME.data`. Returns what was written.

    Raises:
        OutputError: it cannot be written.
    """
    import onnx

    try:
        if model.ByteSize() < MOST_BYTES:
            onnx.save_model(model, path)
            return [path]
        beside = path.with_name(f"{path.name}.data")
        beside.unlink(missing_ok=True)  # onnx appends to what is there
        onnx.save_model(model, path, save_as_external_data=True, location=beside.name)
        onnx.checker.check_model(str(path))
    except OSError as error:
        raise OutputError(f"cannot write the model: {error.strerror or error}", where=str(path)) from error
    return [path, beside]
