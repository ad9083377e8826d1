"""An exported program, read into our own form; what it changes in place becomes new values."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node as FxNode

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.imported import Signature
from iosfarm.frontends.program import Node, Program, Ref, TensorType, replaced


def read_exported(exported: ExportedProgram, name: str, *, batch: int, exact: bool) -> tuple[Program, Signature]:
    """The program, and how it is called.

    Raises:
        CannotImport: control flow, state that changes, sizes that depend on data.
    """
    if _changes_views(exported):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = exported.run_decompositions({})
    reader = _Reader(exported, name, batch, exact)
    for node in exported.graph.nodes:
        reader.read(node)
    return reader.program, reader.signature()


def _changes_views(exported: ExportedProgram) -> bool:
    """Whether something is changed in place that another tensor may share memory with."""
    for node in exported.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if not node.target._schema.is_mutable:
            continue
        target = node.args[0] if node.args else None
        simple = isinstance(target, FxNode) and node.target._schema.name.endswith("_") and target.op == "call_function"
        if not simple:
            return True
        assert isinstance(target, FxNode)
        family = [target, *(user for user in target.users if user is not node)]
        if any(_aliases(member) for member in family):
            return True
    return False


def _aliases(node: FxNode) -> bool:
    """Whether a result may be a view of an argument; in-place operators return the argument itself, which is fine."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.op == "call_function"
    schema = node.target._schema
    if schema.is_mutable:
        return False
    # reshape, contiguous, dropout, … may return their argument and do not say so in their schema.
    unsaid = {
        "reshape",
        "contiguous",
        "dropout",
        "to",
        "flatten",
        "feature_dropout",
        "alpha_dropout",
        "clone",
        "type_as",
    }
    said = any(result.alias_info is not None for result in schema.returns)
    return said or schema.name.removeprefix("aten::") in unsaid - {"clone"}


class _Reader:
    def __init__(self, exported: ExportedProgram, name: str, batch: int, exact: bool) -> None:
        self._exported = exported
        self._where = name
        self.program = Program(name, {}, {}, [], [], batch, exact)
        self._refs: dict[FxNode, Any] = {}
        self._kinds = {
            spec.arg.name: spec for spec in exported.graph_signature.input_specs if hasattr(spec.arg, "name")
        }
        self._labels: dict[str, int] = {}

    def read(self, node: FxNode) -> None:
        """One node of the graph."""
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "output":
            self._outputs(node)
        elif node.op == "call_function":
            self._call(node)
        elif node.op != "get_attr" or not isinstance(getattr(self._exported.graph_module, str(node.target)), Tensor):
            self._refs[node] = None  # a submodule of control flow: the node that calls it says so
        else:
            self.program.constants[node.name] = getattr(self._exported.graph_module, str(node.target))
            self._refs[node] = Ref(node.name)

    def _placeholder(self, node: FxNode) -> None:
        spec = self._kinds.get(node.name)
        self._refs[node] = Ref(node.name)
        if spec is None:
            return
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            target = str(spec.target)
            stored = {**self._exported.state_dict, **self._exported.constants}
            self.program.constants[node.name] = stored[target]
        elif spec.kind is InputKind.USER_INPUT:
            value = node.meta.get("val")
            if isinstance(value, Tensor):
                self.program.inputs[node.name] = TensorType.of(value)
            else:
                self._refs[node] = value  # a number or None, for which the program was made
        else:
            raise CannotImport(f"the input {node.name!r} is a {spec.kind.name.lower()}", where=self._where)

    def _call(self, node: FxNode) -> None:
        target = node.target
        if target is operator.getitem:
            source, item = node.args
            found = self._refs[source]  # type: ignore[index]
            self._refs[node] = found[item] if isinstance(found, list) else Ref(found.name, item)  # type: ignore[index, arg-type]
            return
        where = _author(node)
        if isinstance(target, torch._ops.HigherOrderOperator):
            if _name(target) in ("wrap_with_autocast", "wrap_with_set_grad_enabled"):
                self._region(node, where)
                return
            raise CannotImport(
                f"control flow ({_name(target)}) at {where}", where=self._where,
                hint="replace it by torch.where, or export the branch that is taken",
            )  # fmt: skip
        if not isinstance(target, torch._ops.OpOverload):
            if all(not isinstance(argument, FxNode) for argument in node.args):
                return
            raise CannotImport(f"sizes depend on data ({node.target}) at {where}", where=self._where)
        if "_assert" in _name(target) or _name(target).startswith("aten::sym_"):
            return
        arguments = replaced(node.args, self._argument)
        keywords = {name: replaced(value, self._argument) for name, value in node.kwargs.items()}
        kind = str(target)
        if target._schema.is_mutable:
            kind = _functional(target, where, self._where)
        made = Node(node.name, kind, tuple(arguments), keywords, self._types(node, where), where, self._label(node))
        self.program.nodes.append(made)
        self._refs[node] = Ref(node.name)
        if target._schema.is_mutable:
            # Later readers of what was changed read the result.
            changed = node.args[0]
            for key, ref in list(self._refs.items()):
                if ref == self._refs[changed] and key is not node:  # type: ignore[index]
                    self._refs[key] = Ref(node.name)

    def _region(self, node: FxNode, where: str) -> None:
        """What is computed with or without gradients, or with mixed precision switched off: as if it were not so."""
        position = next(i for i, a in enumerate(node.args) if isinstance(a, FxNode))
        enabled = node.args[2] if _name(node.target) == "wrap_with_autocast" else False
        if enabled:
            raise CannotImport(
                f"mixed precision (autocast) at {where}", where=self._where,
                hint="import the network without autocast, and bind the graph to the dtype that you want",
            )  # fmt: skip
        body = self._submodule(node.args[position])
        inputs = iter(node.args[position + 1 :])
        for inner in body.graph.nodes:
            if inner.op == "placeholder":
                self._refs[inner] = self._argument(next(inputs))
            elif inner.op == "output":
                self._refs[node] = [self._argument(value) for value in inner.args[0]]
            elif inner.op == "call_function":
                self._call(inner)
            elif inner.op == "get_attr":
                raise CannotImport(f"a block inside of another at {where}", where=self._where)

    def _submodule(self, node: Any) -> Any:
        return self._exported.graph_module.get_submodule(str(node.target))

    def _argument(self, value: Any) -> Any:
        if isinstance(value, FxNode):
            return self._refs[value]
        if isinstance(value, (torch.SymInt, torch.SymFloat)):
            return int(value)
        return value

    def _types(self, node: FxNode, where: str) -> TensorType | list[TensorType | None]:
        value = node.meta.get("val")
        try:
            if isinstance(value, Tensor) and value.layout is torch.strided:
                return TensorType.of(value)
            if isinstance(value, Tensor):
                layout = str(value.layout).removeprefix("torch.")
                raise CannotImport(f"a tensor of the layout {layout} at {where}", where=self._where)
            if isinstance(value, (list, tuple)):
                return [TensorType.of(item) if isinstance(item, Tensor) else None for item in value]
        except CannotImport:
            raise
        except Exception:  # a size without a number: torch has many errors for it
            pass
        raise CannotImport(f"{node.target} at {where} has no fixed shape", where=self._where)

    def _outputs(self, node: FxNode) -> None:
        for spec, value in zip(self._exported.graph_signature.output_specs, node.args[0], strict=True):  # type: ignore[arg-type]
            if spec.kind is OutputKind.USER_OUTPUT:
                self.program.outputs.append(self._argument(value))
            elif spec.kind is OutputKind.USER_INPUT_MUTATION:
                self.program.notices.append(
                    f"the module changes its input {spec.target!r}, which the graph leaves alone"
                )
            else:
                raise CannotImport(
                    f"the network changes {spec.target!r} when it runs", where=self._where,
                    hint="export it in evaluation mode, without state",
                )  # fmt: skip

    def signature(self) -> Signature:
        """How the program is called."""
        names = self._exported.graph_signature.user_inputs
        tensors = tuple(place for place, name in enumerate(names) if name in self.program.inputs)
        spec = self._exported.call_spec
        return Signature(tensors, (), spec.in_spec, spec.out_spec)

    def _label(self, node: FxNode) -> str:
        """The module's path where the node is all that it does, else the path and the node's own name."""
        path, kind = _module(node)
        leaf = kind.startswith("torch.nn.modules.") and not kind.endswith(("Sequential", "ModuleList", "Attention"))
        base = str(node.target).split(".")[1].strip("_")
        if path and leaf:
            return path
        count = self._labels[base] = self._labels.get(base, 0) + 1
        return f"{path}.{base}" if path else f"{base}_{count}"


def _module(node: FxNode) -> tuple[str, str]:
    """Path and class of the module that a node belongs to."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return path.split("@")[0], kind


def _author(node: FxNode) -> str:
    """Where an author would look: the module's path, and the line of code."""
    path, _ = _module(node)
    trace = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if "File" in line]
    line = ""
    if trace:
        parts = trace[-1].replace('"', "").split(", ")
        line = f"{parts[0].removeprefix('File ').rsplit('/', 1)[-1]}:{parts[1].removeprefix('line ')}"
    return f"{path or node.name} ({line})" if line else path or node.name


def _name(target: Any) -> str:
    return str(target.name())


def _functional(target: Any, where: str, name: str) -> str:
    """The operator that makes a new tensor where `target` changes its first argument."""
    namespace, base = target._schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), base.removesuffix("_"), None)
    overload = target._overloadname
    if not base.endswith("_") or packet is None or overload not in packet.overloads():
        raise CannotImport(f"{target} at {where} changes a tensor in place", where=name, hint="write it without")
    return f"{namespace}.{base.removesuffix('_')}.{overload}"
