"""iosfarm decides which stages are worth measuring; workers measure, kernels execute, db remembers them.

    graph = iosfarm.load("squeezenet")
    schedule = iosfarm.search(graph, device="cpu", batch_size=1)
    model = iosfarm.compile(graph, schedule)

`import iosfarm` is cheap: a public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iosfarm.db import LatencyDatabase
    from iosfarm.deploy.compiling import compile
    from iosfarm.deploy.exporting import export
    from iosfarm.farm.api import search
    from iosfarm.ir.builder import GraphBuilder
    from iosfarm.ir.errors import IosfarmError
    from iosfarm.ir.graph import Graph
    from iosfarm.ir.schedule import Schedule
    from iosfarm.zoo.load import load

    __version__: str

__all__ = [
    "Graph",
    "GraphBuilder",
    "IosfarmError",
    "LatencyDatabase",
    "Schedule",
    "__version__",
    "compile",
    "export",
    "load",
    "search",
]

_HOMES = {
    "Graph": "iosfarm.ir.graph",
    "GraphBuilder": "iosfarm.ir.builder",
    "IosfarmError": "iosfarm.ir.errors",
    "LatencyDatabase": "iosfarm.db",
    "Schedule": "iosfarm.ir.schedule",
    "compile": "iosfarm.deploy.compiling",
    "export": "iosfarm.deploy.exporting",
    "load": "iosfarm.zoo.load",
}


if not TYPE_CHECKING:  # a type checker would let every misspelt name pass

    def __getattr__(name: str) -> object:
        if name == "search":
            # Also the name of the subpackage, which Python puts here as soon as anything imports it: so the
            # subpackage itself is callable, and what `iosfarm.search` is does not depend on the order of imports.
            return importlib.import_module("iosfarm.search")
        if name == "__version__":
            from importlib.metadata import version

            value: object = version("iosfarm")
        elif name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'iosfarm' has no attribute '{name}'")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
