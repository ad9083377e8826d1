"""`import_file`: an ONNX file as a graph."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.imported import Imported, Signature
from iosfarm.frontends.importing import import_program
from iosfarm.frontends.onnx.batches import check_batch
from iosfarm.frontends.onnx.emitting import Emitter, Value
from iosfarm.frontends.onnx.operators import TRANSLATIONS, OnnxNode
from iosfarm.frontends.onnx.reading import CONTROL, QUANTISED, check_names, complaint, newest_opset, opset, read_model
from iosfarm.frontends.program import RECORDED_BATCH, Program, Ref, TensorType

_OTHER_BATCH = 1013
"""Another prime: what a file computes from the size of the batch is another number with it."""

_MOST_ELEMENTS = 1 << 40
"""Of an input, for one item of the batch."""


def import_file(
    path: str | Path,
    *,
    strict: bool = False,
    batch_size: int | None = None,
    bindings: Mapping[str, int] | None = None,
    name: str | None = None,
) -> Imported:
    """The graph and the weights of an ONNX file.

    batch_size: of the graph; by default what the file says, 1 where it leaves it open. bindings: sizes for other
    dynamic axes, by their names in the file. strict: an operator without a counterpart is an error. name: of the graph;
    the file's unless given.

    Raises:
        CannotImport: see `iosfarm.frontends.onnx.reading.read_model`; a dynamic axis that is not bound; an operator
            that cannot be translated; control flow; quantised or complex numbers; weights that do not fit.
    """
    path = Path(path)
    model = read_model(path)
    check_names(model, str(path))
    inputs, dynamic, batch = _inputs(model, path, bindings or {})
    weights = _weights(model, path)
    last: CannotImport | None = None
    # A batch that is left open shows everywhere if it is an odd number; files that fix it later on need a 1.
    for recorded in (RECORDED_BATCH, 1) if dynamic else (batch,):
        try:
            exact = recorded == RECORDED_BATCH
            program = _Reader(model, path, inputs, weights, recorded, name or path.stem, exact=exact).read()
            places = Signature(tuple(range(len(inputs))), ())
            imported = import_program(program, strict=strict, signature=places)
            if exact:
                _check_constants(imported, path)
            break
        except CannotImport as error:
            last = error
    else:
        assert last is not None
        raise last
    if exact and any(node.op_type in ("Shape", "Size") for node in model.graph.node):
        check_batch(program, _Reader(model, path, inputs, weights, _OTHER_BATCH, "", exact=True).read(), str(path))
    if dynamic and not exact:
        words = "it can be read for a batch of 1 alone: other batch sizes may not be what the file says"
        imported = replace(imported, notices=(*imported.notices, words))
    graph = imported.graph.bind(batch=batch_size or batch)
    return Imported(graph, imported.weights, imported.opaque, imported.notices, imported.signature)


def _check_constants(imported: Imported, path: Path) -> None:
    """Operators that are kept whole hold their constants as they are: none may have the size of the batch.

    Raises:
        CannotImport: one has.
    """
    for item in imported.graph.operators:
        if item.kind == "opaque":
            shapes = re.findall(r'"shape":\[([0-9,]*)\]', str(item.attributes["program"]))
            sizes = {size for shape in shapes for size in shape.split(",")}
            sizes.update(str(size) for shape in imported.graph.parameters(item).values() for size in shape)
            if str(RECORDED_BATCH) in sizes:
                raise CannotImport(f"a constant of {item.name} has the size of the batch", where=str(path))


def _inputs(model: Any, path: Path, bindings: Mapping[str, int]) -> tuple[dict[str, TensorType], bool, int]:
    """Inputs with a batch of 0 in front, whether it is left open, and else what it is."""
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype

    where = str(path)
    stored = {item.name for item in model.graph.initializer} | {
        item.values.name for item in model.graph.sparse_initializer
    }
    given = [item for item in model.graph.input if item.name not in stored]
    if not given:
        raise CannotImport("the network reads no tensor", where=where)
    result: dict[str, TensorType] = {}
    batches: dict[str, int | str] = {}
    names: set[str] = set()
    for item in given:
        kind = item.type.tensor_type
        if not item.type.HasField("tensor_type") or not kind.HasField("shape"):
            raise CannotImport(f"the input {item.name!r} is no tensor of a known rank", where=where)
        dtypes = {
            TensorProto.FLOAT: torch.float32,
            TensorProto.FLOAT16: torch.float16,
            TensorProto.DOUBLE: torch.float64,
            TensorProto.BFLOAT16: torch.bfloat16,
        }
        if kind.elem_type not in dtypes:
            dtype = tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else "of no type"
            raise CannotImport(f"the input {item.name!r} is {dtype}; inputs are floating-point tensors", where=where)
        sizes: list[int] = []
        for axis, size in enumerate(kind.shape.dim):
            words = size.dim_param or f"{item.name}.{axis}"
            names.add(words)
            if size.dim_value > 0:
                sizes.append(size.dim_value)
            elif words in bindings:
                if type(bindings[words]) is not int or bindings[words] < 1:
                    raise CannotImport(
                        f"{words}={bindings[words]!r} is no size", where=where, hint="a size is 1 or more"
                    )
                sizes.append(bindings[words])
            elif axis == 0:
                sizes.append(0)
            else:
                raise CannotImport(
                    f"axis {axis} of the input {item.name!r} is dynamic ({words})", where=where,
                    hint=f"bind it: {words}=224, for instance",
                )  # fmt: skip
        if math.prod(size or 1 for size in sizes) > _MOST_ELEMENTS:
            raise CannotImport(f"the input {item.name!r} has the shape {sizes}", where=where, hint="it is too large")
        if len(sizes) < 2:
            raise CannotImport(
                f"the input {item.name!r} has the shape {sizes}", where=where,
                hint="the first axis of every input is the batch, and there are others",
            )  # fmt: skip
        batches[item.name] = sizes[0] or "open"
        result[item.name] = TensorType((0, *sizes[1:]), dtypes[kind.elem_type])
    wrong = [words for words in bindings if words not in names]
    if wrong:
        near = difflib.get_close_matches(wrong[0], sorted(names), 1)
        hint = f"did you mean {near[0]}?" if near else f"the file has {', '.join(sorted(names))}"
        raise CannotImport(f"there is no dynamic axis {wrong[0]!r}", where=where, hint=hint)
    if len(set(batches.values())) > 1:
        words_ = ", ".join(f"{name}: {size}" for name, size in batches.items())
        raise CannotImport(f"inputs of several batch sizes ({words_})", where=where, hint="the first axis is the batch")
    first = next(iter(batches.values()))
    return result, first == "open", 1 if isinstance(first, str) else first


def _weights(model: Any, path: Path) -> dict[str, Tensor]:
    """The initialisers of a file."""
    from onnx import numpy_helper

    found: dict[str, Tensor] = {}
    for item in model.graph.initializer:
        try:
            if min(item.dims, default=0) < 0:
                raise ValueError(f"it has the shape {list(item.dims)}")
            found[item.name] = _tensor(numpy_helper.to_array(item))
        except KeyError:
            what = f"the weight {item.name!r} is of an unknown type ({item.data_type})"
            raise CannotImport(what, where=str(path)) from None
        except (ValueError, TypeError) as error:
            raise CannotImport(f"the weight {item.name!r} cannot be read: {error}", where=str(path)) from None
    return found


class _Reader:
    def __init__(
        self,
        model: Any,
        path: Path,
        inputs: Mapping[str, TensorType],
        weights: Mapping[str, Tensor],
        batch: int,
        name: str,
        *,
        exact: bool,
    ) -> None:
        self._model = model
        self._path = path
        kinds = {key: TensorType((batch, *kind.shape[1:]), kind.dtype) for key, kind in inputs.items()}
        self.program = Program(name, kinds, {}, [], [], batch, exact)
        self.emit = Emitter(self.program)
        self.values: dict[str, Value | None] = {"": None, **{key: Ref(key) for key in inputs}, **weights}
        self._opset = opset(model)
        if self._opset > newest_opset():
            self.program.notices.append(
                f"opset {self._opset}: operators may mean something else than in {newest_opset()}"
            )

    def read(self) -> Program:
        """The whole file as a program."""
        for position, node in enumerate(self._model.graph.node):
            self._node(position, node)
        for item in self._model.graph.output:
            value = self.values.get(item.name)
            if value is None:
                raise CannotImport(f"the output {item.name!r} is not computed", where=str(self._path))
            self.program.outputs.append(self.emit.stored(value) if isinstance(value, Tensor) else value)
        return self.program

    def _node(self, position: int, node: Any) -> None:
        kind = node.op_type
        label = node.name or (node.output[0] if node.output else kind)
        where = f"node {position} {label!r} ({kind})"
        self.emit.where, self.emit.label = where, label.strip("/").replace("/", ".") or kind
        translate = TRANSLATIONS.get(kind)
        if translate is None:
            raise self._unknown(kind, where)
        inputs = [self._value(name, where) for name in node.input]
        try:
            results = translate(OnnxNode(self.emit, node, inputs, self._opset))
        except CannotImport as error:
            raise CannotImport(error.what, where=f"{self._path}: {where}", hint=error.hint) from None
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, NotImplementedError) as error:
            said = complaint(node, self._opset) or (str(error).splitlines()[0] if str(error) else type(error).__name__)
            shapes = ", ".join(str(list(self.emit.shape(v))) for v in inputs if v is not None)
            raise CannotImport(f"it does not fit inputs of {shapes}: {said}", where=f"{self._path}: {where}") from None
        results = results if isinstance(results, (list, tuple)) else [results]
        for name, value in zip(node.output, results, strict=False):
            self.values[name] = value

    def _value(self, name: str, where: str) -> Value | None:
        if name and self.values.get(name) is None:
            raise CannotImport(f"it reads {name!r}, which is not computed", where=f"{self._path}: {where}")
        return self.values[name]

    def _unknown(self, kind: str, where: str) -> CannotImport:
        place = f"{self._path}: {where}"
        if kind in CONTROL:
            return CannotImport(
                "control flow", where=place, hint="export the branch that is taken, without a condition"
            )
        if kind.startswith(QUANTISED):
            return CannotImport("a quantised network", where=place, hint="import the network before its quantisation")
        near = difflib.get_close_matches(kind, TRANSLATIONS, 1)
        hint = f"the nearest one that is known is {near[0]}" if near else ""
        return CannotImport(f"the operator {kind} is not known", where=place, hint=hint)


def _tensor(array: Any) -> Tensor:
    if array.dtype.kind == "c":
        raise TypeError("it is complex")
    if array.dtype.kind == "V" or str(array.dtype) in ("bfloat16",):
        array = array.astype(np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array, order="C"))
