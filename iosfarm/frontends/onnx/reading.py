"""An ONNX file from anywhere: read, checked, its mistakes named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.onnx.operators import TRANSLATIONS

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 7

CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators that run graphs of their own."""

QUANTISED = ("QLinear", "QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantize")
"""How names of operators on small integers begin."""


def read_model(path: Path) -> onnx.ModelProto:
    """The model of a file, with its external data.

    Raises:
        CannotImport: the file cannot be read, or is no ONNX model; it is of an older opset, or has operators of other
            domains; its external data are missing; onnx is not installed.
    """
    where = str(path)
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise CannotImport(
            "ONNX files need the package onnx", where=where, hint="pip install 'iosfarm[onnx]'"
        ) from None
    if path.exists() and not path.is_file():
        raise CannotImport("not a file", where=where, hint="give the path of an .onnx file")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise CannotImport(f"cannot read this file: {error.strerror}", where=where) from None
    except DecodeError:
        raise CannotImport("not an ONNX file, or one that is cut off", where=where, hint="copy it again") from None
    if not model.graph.node or not model.opset_import:
        raise CannotImport("an ONNX file without a network", where=where, hint="it may be cut off; copy it again")
    _load_external(model, path)
    _check_domains(model, where)
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    return _spelled_out(model)


def _spelled_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """Operators that no translation knows and that ONNX itself defines by others (attention, RMS norm, …), in those."""
    import onnx
    from onnx.inliner import inline_selected_functions

    unknown = {node.op_type for node in model.graph.node if node.op_type not in TRANSLATIONS}
    functions: dict[str, Any] = {}
    for kind in sorted(unknown - CONTROL):
        try:
            schema = onnx.defs.get_schema(kind, opset(model))
        except onnx.defs.SchemaError:
            continue
        defined = getattr(schema, "has_function", False) or getattr(schema, "has_context_dependent_function", False)
        if defined and not kind.startswith(QUANTISED):
            functions[kind] = schema
    if not functions:
        return model
    for node in model.graph.node:
        # onnx forgets the defaults when it puts a definition in the place of an operator.
        defined_as = functions.get(node.op_type)
        stated = {item.name for item in node.attribute}
        for name, attribute in defined_as.attributes.items() if defined_as is not None else ():
            if name not in stated and attribute.default_value.name:
                node.attribute.append(attribute.default_value)
    try:
        # What such a definition is may depend on types and shapes.
        typed = onnx.shape_inference.infer_shapes(model)
        spelled = inline_selected_functions(typed, [("", kind) for kind in functions], inline_schema_functions=True)
    except (RuntimeError, ValueError, TypeError, onnx.onnx_cpp2py_export.shape_inference.InferenceError):
        return model  # the operator itself is refused, by its name
    # A definition can be of an older opset than the file, in which its operators mean something else.
    outdated = any(complaint(node, opset(model)) for node in spelled.graph.node)
    return model if outdated else spelled


def opset(model: Any) -> int:
    """Version of the standard operators."""
    return max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)


def newest_opset() -> int:
    """The newest version that the installed onnx knows."""
    import onnx

    return int(onnx.defs.onnx_opset_version())


def check_names(model: Any, where: str) -> None:
    """Every tensor is made once.

    Raises:
        CannotImport: two things have one name.
    """
    stored = [item.name for item in model.graph.initializer]
    given = [item.name for item in model.graph.input]
    made = [name for node in model.graph.node for name in node.output if name]
    # Inputs may name initialisers: those are their defaults.
    for names, kind in ((stored, "weights"), (given, "inputs"), ([*made, *{*stored, *given}], "tensors")):
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise CannotImport(f"two {kind} are called {twice!r}", where=where, hint="names have to be unique")


def complaint(node: Any, version: int) -> str:
    """What onnx itself says is wrong with a node; empty where it finds nothing."""
    import onnx

    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = onnx.IR_VERSION, {"": version}
    try:
        onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError as error:
        return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return ""


def _check_domains(model: Any, where: str) -> None:
    if opset(model) and opset(model) < OLDEST_OPSET:
        raise CannotImport(
            f"opset {opset(model)}; {OLDEST_OPSET} and later are read", where=where,
            hint="onnx.version_converter can convert the file",
        )  # fmt: skip
    known = {(function.domain, function.name) for function in model.functions}
    for position, node in enumerate(model.graph.node):
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in known:
            raise CannotImport(
                f"the operator {node.op_type} of the domain {node.domain!r} at node {position} {node.name!r}",
                where=where, hint="only operators of ONNX itself can be imported; export without custom ones",
            )  # fmt: skip


def _load_external(model: Any, path: Path) -> None:
    import onnx
    from onnx import external_data_helper as external

    places = [
        {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        for tensor in external._get_all_tensors(model)
        if external.uses_external_data(tensor)
    ]
    if not places:
        return
    folder = path.parent
    for place in dict.fromkeys(places):
        inside = (folder / place).resolve().is_relative_to(folder.resolve())
        if not inside:
            raise CannotImport(f"its weights are in {place!r}, outside of its folder", where=str(path))
        if not (folder / place).is_file():
            raise CannotImport(
                f"its weights are in {place!r}, which is not there", where=str(path), hint="put it beside the file"
            )
    try:
        external.load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise CannotImport(f"its weights cannot be read: {error}", where=str(path)) from None
