"""`import_archive`: a `.pt2` file of `torch.export.save` as a graph."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.imported import Imported
from iosfarm.frontends.torch.archive import DTYPES, damaged, read_archive
from iosfarm.frontends.torch.exporting import exported, exported_as_given
from iosfarm.frontends.torch.importer import Examples, examples, imported
from iosfarm.frontends.torch.nests import nest
from iosfarm.frontends.torch.replaying import Replay

_SOME_BATCH = 2
"""Where the batch is dynamic and the file does not say what it was exported with."""

_LONGEST = 200
"""Characters of what a file says of itself."""


def import_archive(
    path: str | Path,
    example_inputs: Examples = None,
    *,
    strict: bool = False,
    name: str | None = None,
    check: bool = True,
) -> Imported:
    """The graph and the weights of a program that `torch.export.save` wrote; its batch is 1, or the file's if fixed.

    The file is read as data, by us: nothing in it is unpickled or run but the operators of torch and torchvision that
    the program consists of. example_inputs: needed only where the program has dynamic sizes besides the batch, for
    their sizes. strict, name, check: as `import_module` has them; the name is the file's unless given.

    Raises:
        CannotImport: the file cannot be read, or is of another version, or its program cannot be imported.
    """
    path = Path(path)
    where = str(path)
    archive = read_archive(path)
    try:
        program = _Program(archive.program, archive.tensors, where)
        arguments, keywords = program.examples(*examples(example_inputs))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, RecursionError) as error:
        raise damaged(error, where) from None
    except (RuntimeError, MemoryError) as error:
        raise CannotImport(f"it does not fit into memory: {error}".splitlines()[0], where=where) from None
    name = name or path.stem
    export = exported if program.dynamic else exported_as_given
    made, exact, batch = export(program.module, arguments, keywords, where)
    _tell_origins(made, program.module)
    examples_ = (arguments, keywords) if check else None
    found = imported(made, program.module, examples_, name, batch=batch, exact=exact, strict=strict)
    return found if program.dynamic else replace(found, graph=found.graph.bind(batch=batch))


@dataclass(frozen=True)
class _Input:
    """A tensor that the program reads. sizes: numbers, or (name, size when it was exported or None)."""

    name: str
    sizes: tuple[int | tuple[str, int | None], ...]
    dtype: torch.dtype


class _Program:
    """The JSON of a program, as a module and how it is called."""

    def __init__(self, document: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> None:
        self._where = where
        module = document["graph_module"]
        graph, signature = module["graph"], module["signature"]
        call = next(entry["signature"] for entry in module["module_call_graph"] if entry["fqn"] == "")
        found: dict[str, Tensor] = {}
        self._inputs: list[_Input | Any] = []
        names = []
        for spec in signature["input_specs"]:
            ((kind, value),) = spec.items()
            if kind in ("parameter", "buffer", "tensor_constant"):
                found[value["arg"]["name"]] = tensors[value[f"{kind}_name"]]
            elif kind in ("user_input", "constant_input"):
                name, what = self._input(graph, kind, value)
                names.append(name)
                self._inputs.append(what)
            else:
                raise CannotImport(f"the program reads a {kind}", where=where, hint="export the network without it")
        outputs = self._outputs(signature["output_specs"])
        self._in_spec, out_spec = str(call["in_spec"]), str(call["out_spec"])
        self.module = Replay(graph, names, found, outputs, lambda values: nest(out_spec, iter(values)), where)
        _name_arguments(self.module, call.get("forward_arg_names") or ())

    @staticmethod
    def _input(graph: Mapping[str, Any], kind: str, value: Mapping[str, Any]) -> tuple[str, Any]:
        if kind == "constant_input":
            ((_, constant),) = value["value"].items()
            return str(value["name"]), None if "as_none" in value["value"] else constant
        name = str(value["arg"]["as_tensor"]["name"])
        meta = graph["tensor_values"][name]
        sizes = tuple(_size(item) for item in meta["sizes"])
        return name, _Input(name, sizes, DTYPES[meta["dtype"]])

    def _outputs(self, specs: Sequence[Mapping[str, Any]]) -> list[Any]:
        outputs = []
        for spec in specs:
            ((kind, value),) = spec.items()
            if kind == "user_output":
                outputs.append(value["arg"])
            elif kind != "user_input_mutation":
                what = f"the network changes {next(iter(value.values()))!r} when it runs ({kind})"[:_LONGEST]
                raise CannotImport(what, where=self._where, hint="export it in evaluation mode, without state")
        return outputs

    def _tensor_inputs(self) -> list[_Input]:
        return [item for item in self._inputs if isinstance(item, _Input)]

    @property
    def dynamic(self) -> bool:
        """Whether the batch was exported as a size that may change."""
        return any(item.sizes and not isinstance(item.sizes[0], int) for item in self._tensor_inputs())

    def examples(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Tensors of the sizes that the program is imported for, in the nest that it is called with.

        Raises:
            CannotImport: a size is not known, or the given ones are not those of the program.
        """
        inputs = self._tensor_inputs()
        given = [leaf for leaf in pytree.tree_leaves((tuple(arguments), dict(keywords))) if isinstance(leaf, Tensor)]
        if given and len(given) != len(inputs):
            raise CannotImport(f"{len(given)} example inputs for a program of {len(inputs)}", where=self._where)
        batches = {item.sizes[0][0] for item in inputs if item.sizes and not isinstance(item.sizes[0], int)}
        made = []
        for number, item in enumerate(inputs):
            sizes = self._sizes(item, batches, given[number].shape if given else None)
            made.append(torch.empty(sizes, dtype=item.dtype))
        tensors = iter(made)
        leaves = [next(tensors) if isinstance(item, _Input) else item for item in self._inputs]
        found: tuple[tuple[Any, ...], dict[str, Any]] = nest(self._in_spec, iter(leaves))
        return found

    def _sizes(self, item: _Input, batches: set[str], given: Sequence[int] | None) -> list[int]:
        words = [size if isinstance(size, int) else "batch" if size[0] in batches else "any" for size in item.sizes]
        fits = given is None or (
            len(given) == len(words)
            and all(
                w == g or not isinstance(w, int) or a == 0 for a, (w, g) in enumerate(zip(words, given, strict=True))
            )
        )
        if not fits:
            what = f"the input {item.name!r} is {words} in the file, and {list(given or ())} here"
            raise CannotImport(what.replace("'", ""), where=self._where)
        sizes = []
        for axis, size in enumerate(item.sizes):
            if isinstance(size, int):
                sizes.append(size)
            elif size[0] in batches:
                sizes.append(size[1] or _SOME_BATCH)
            elif given is not None:
                sizes.append(given[axis])
            else:
                raise CannotImport(
                    f"axis {axis} of the input {item.name!r} is dynamic", where=self._where,
                    hint="give example inputs (in zoo.yaml: inputs): their sizes are what it is imported for",
                )  # fmt: skip
        return sizes


def _size(item: Mapping[str, Any]) -> int | tuple[str, int | None]:
    ((kind, value),) = item.items()
    if kind == "as_int":
        return int(value)
    hint = (value.get("hint") or {}).get("as_int")
    return str(value["expr_str"]), hint if type(hint) is int and hint > 0 else None


def _name_arguments(module: Replay, names: Sequence[Any]) -> None:
    """`forward` takes arguments of these names: inputs of the graph are called after them."""
    texts = [name for name in names if isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)]
    if len(texts) != len(names) or len(set(texts)) != len(texts):
        return

    def forward(*arguments: Any, **keywords: Any) -> Any:
        return Replay.forward(module, *arguments, **keywords)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    forward.__signature__ = inspect.Signature([inspect.Parameter(text, kind) for text in texts])  # type: ignore[attr-defined]
    module.forward = forward  # type: ignore[method-assign]


def _tell_origins(program: ExportedProgram, module: Replay) -> None:
    """Where operators come from is what the file says, not our own replaying of it."""
    for graph in (part.graph for part in program.graph_module.modules() if hasattr(part, "graph")):
        for node in graph.nodes:
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            said = module.origin(stack[-1][0]) if stack else {}
            path, kind = _innermost(said.get("nn_module_stack", ""))
            node.meta["nn_module_stack"] = {path: (path, kind)} if path else {}
            node.meta["stack_trace"] = _printable(said.get("stack_trace", ""), "\n")


def _innermost(stack: str) -> tuple[str, str]:
    """Path and class of the innermost module of `key,path,class;…`."""
    parts = stack.rsplit(";", 1)[-1].split(",", 2)
    return (_printable(parts[1])[-_LONGEST:], _printable(parts[2])) if len(parts) == 3 else ("", "")


def _printable(text: str, also: str = "") -> str:
    return "".join(c for c in text if c.isprintable() or c in also)
