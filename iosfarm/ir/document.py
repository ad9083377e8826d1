"""The JSON document of a graph, read strictly: what is wrong is named with its place in the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from iosfarm.ir.errors import GraphError
from iosfarm.ir.nodes import GraphInput, Operator, Unit

_T = TypeVar("_T")

FORMAT = "iosfarm-graph"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class GraphDocument:
    """What a document says; whether it makes a graph is `Graph`'s to decide."""

    name: str
    batch: int
    dtype: str
    inputs: list[GraphInput]
    operators: list[Operator]
    units: list[Unit]
    outputs: list[str]


def read_document(document: object) -> GraphDocument:
    """The parts of a JSON document.

    Raises:
        GraphError: it is not a graph document, or of another version, or a field is missing or of another type.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise GraphError("not a graph document", hint=f'expected an object with "format": "{FORMAT}"')
    if document.get("version") != FORMAT_VERSION:
        raise GraphError(
            f"graph format version {document.get('version')!r}", hint=f"this program reads version {FORMAT_VERSION}"
        )
    inputs = _objects(document, "inputs")
    operators = _objects(document, "operators")
    units = _objects(document, "units")
    return GraphDocument(
        name=_text(document, "name", "graph"),
        batch=_field(document, "batch", int, "graph"),
        dtype=_text(document, "dtype", "graph"),
        inputs=[GraphInput(_text(i, "name", at), _integers(i, "shape", at)) for at, i in inputs],
        operators=[
            Operator(
                _text(o, "name", at),
                _text(o, "kind", at),
                tuple(_texts(o, "inputs", at)),
                _field(o, "attributes", dict, at),
            )
            for at, o in operators
        ],
        units=[Unit(_text(u, "name", at), tuple(_texts(u, "operators", at))) for at, u in units],
        outputs=_texts(document, "outputs", "graph"),
    )


def _field(document: Mapping[str, object], name: str, kind: type[_T], where: str) -> _T:
    value = document.get(name)
    if type(value) is not kind:  # exactly: true is no integer here
        found = type(value).__name__ if name in document else "nothing"
        raise GraphError(f"malformed graph document: {name!r} must be a {kind.__name__}, found {found}", where=where)
    return value


def _text(document: Mapping[str, object], name: str, where: str) -> str:
    return _field(document, name, str, where)


def _texts(document: Mapping[str, object], name: str, where: str) -> list[str]:
    values = _field(document, name, list, where)
    if not all(isinstance(value, str) for value in values):
        raise GraphError(f"malformed graph document: {name!r} must hold names", where=where)
    return values


def _integers(document: Mapping[str, object], name: str, where: str) -> tuple[int, ...]:
    values = _field(document, name, list, where)
    if not all(type(value) is int for value in values):
        raise GraphError(f"malformed graph document: {name!r} must hold integers", where=where)
    return tuple(values)


def _objects(document: Mapping[str, object], name: str) -> list[tuple[str, Mapping[str, object]]]:
    values = _field(document, name, list, "graph")
    result: list[tuple[str, Mapping[str, object]]] = []
    for position, value in enumerate(values):
        where = f"{name}[{position}]"
        if not isinstance(value, dict):
            raise GraphError("malformed graph document: expected an object", where=where)
        result.append((where, value))
    return result
