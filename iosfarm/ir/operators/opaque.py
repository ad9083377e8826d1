"""`opaque`: an operator that we do not know, kept whole as a small program of torch operators.

The attribute `program` is canonical JSON, so that a stage's key holds everything that is executed:

    {"flops": 4096,                                        of one item of the batch
     "inputs": [[{"batch": 1}, 197, 768]],                 sizes; {"batch": k} is k times the batch
     "parameters": [[768]],                                shapes of float weights p0, p1, …
     "nodes": [["aten.topk.default", [{"input": 0}, 5], {}]],
     "output": {"node": 0, "item": 1}, "shape": [{"batch": 1}, 197, 5]}

Arguments are null, booleans, numbers, text, lists, sizes as above, and {"input": i}, {"parameter": i},
{"node": i} or {"node": i, "item": j} for one of several results, {"dtype": "int64"} ("graph": that of the graph),
{"float": "inf"}, {"tensor": {"dtype", "shape", "data"}} with base64 of zlib of little-endian values.
Execution is in `kernels/opaque.py`; which operators may run is decided there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from iosfarm.ir.operators.spec import Attributes, OperatorSpec, Shape, fail

Size = int | dict[str, int]
"""A number, or {"batch": k}."""

MAX_PROGRAM = 64 << 20
"""Characters of a program."""


@dataclass(frozen=True)
class OpaqueProgram:
    """A program as `program` has it, checked as far as can be without torch. Sizes below 0 are multiples of the batch.

    nodes: (operator, arguments, keyword arguments), arguments as JSON has them.
    """

    inputs: tuple[tuple[int, ...], ...]
    parameters: tuple[Shape, ...]
    nodes: tuple[tuple[str, list[object], dict[str, object]], ...]
    output: tuple[int, int | None]
    shape: tuple[int, ...]
    flops: int

    @property
    def name(self) -> str:
        """What to call it: the operators with their namespace left out, the last first where there are several."""
        names = [kind.split(".")[1] for kind, _, _ in self.nodes]
        return names[-1] if len(names) == 1 else f"{names[-1]} (+{len(names) - 1})"

    def batch(self, inputs: Sequence[Shape]) -> int:
        """The batch for which inputs have these shapes; 1 where none depends on it.

        Raises:
            GraphError: there is none.
        """
        if len(inputs) != len(self.inputs):
            raise fail(f"the program reads {len(self.inputs)} input(s), got {len(inputs)}")
        found: set[int] = set()
        for expected, given in zip(self.inputs, inputs, strict=True):
            if len(expected) != len(given):
                raise fail(f"the program reads a tensor of rank {len(expected)}, got {list(given)}")
            for wanted, size in zip(expected, given, strict=True):
                if wanted < 0 and size % -wanted == 0:
                    found.add(size // -wanted)
                elif wanted != size:
                    raise fail(f"the program was recorded for {_words(expected)}, got {list(given)}")
        if len(found) > 1:
            raise fail("inputs of the program are of several batch sizes")
        return found.pop() if found else 1


def _words(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(s) if s >= 0 else f"{-s}·batch" if s < -1 else "batch" for s in shape) + "]"


@lru_cache(maxsize=4096)
def read_program(text: str) -> OpaqueProgram:
    """The program of a `program` attribute.

    Raises:
        GraphError: it is none.
    """
    if len(text) > MAX_PROGRAM:
        raise fail(f"a program of {len(text):,} characters is too long")
    try:
        document = json.loads(text)
        nodes = tuple(_node(item, number) for number, item in enumerate(document["nodes"]))
        if not nodes:
            raise fail("the program has no operator")
        output = document["output"]
        item = output.get("item")
        if not (type(output["node"]) is int and 0 <= output["node"] < len(nodes)) or type(item) not in (
            int,
            type(None),
        ):
            raise fail("the program's output leads nowhere")
        program = OpaqueProgram(
            inputs=tuple(_shape(shape) for shape in document["inputs"]),
            parameters=tuple(_shape(shape) for shape in document["parameters"]),
            nodes=nodes,
            output=(output["node"], item),
            shape=_shape(document["shape"]),
            flops=int(document["flops"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise fail(f"not a program: {type(error).__name__} {error}") from None
    if any(min(shape, default=1) < 1 for shape in program.parameters) or not program.shape or program.flops < 0:
        raise fail("not a program: a shape or flops that cannot be")
    for number, (_, arguments, keywords) in enumerate(nodes):
        _check_references([arguments, *keywords.values()], number, program)
    return program


def _node(item: object, number: int) -> tuple[str, list[object], dict[str, object]]:
    if not isinstance(item, list) or len(item) != 3:
        raise fail(f"operator {number} of the program is not [name, arguments, keywords]")
    kind, arguments, keywords = item
    parts = kind.split(".") if isinstance(kind, str) else []
    if len(parts) != 3 or not all(part.isidentifier() for part in parts):
        raise fail(f"operator {number} of the program is {kind!r}, not namespace.name.overload")
    if not isinstance(arguments, list) or not isinstance(keywords, dict):
        raise fail(f"operator {number} of the program is not [name, arguments, keywords]")
    return kind, arguments, keywords


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise fail("not a program: a shape is a list")
    return tuple(-_whole(size["batch"]) if isinstance(size, dict) else _whole(size) for size in value)


def _whole(value: object) -> int:
    if type(value) is not int or value < 1:
        raise fail(f"not a program: {value!r} is no size")
    return value


def _check_references(values: Sequence[object], number: int, program: OpaqueProgram) -> None:
    pending = list(values)
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            for key, count in (
                ("input", len(program.inputs)),
                ("parameter", len(program.parameters)),
                ("node", number),
            ):
                if key in value and not (type(value[key]) is int and 0 <= value[key] < count):
                    raise fail(f"operator {number} of the program reads {key} {value[key]!r}, which is not there")


def _program(attributes: Attributes) -> OpaqueProgram:
    return read_program(str(attributes["program"]))


def _infer(attributes: Attributes, inputs: Sequence[Shape]) -> Shape:
    program = _program(attributes)
    batch = program.batch(inputs)
    return tuple(size if size > 0 else -size * batch for size in program.shape)


def _parameters(attributes: Attributes, _: Sequence[Shape]) -> dict[str, Shape]:
    return {f"p{number}": shape for number, shape in enumerate(_program(attributes).parameters)}


def _flops(attributes: Attributes, inputs: Sequence[Shape], _: Shape) -> int:
    program = _program(attributes)
    return program.flops * program.batch(inputs)


SPECS = (OperatorSpec("opaque", {"program": str}, _infer, arity=(1, None), parameters=_parameters, flops=_flops),)
