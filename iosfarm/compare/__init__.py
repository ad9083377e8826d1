"""Other frameworks beside iosfarm: the same network, weights, inputs and precision, each in a process of its own.

    rows = iosfarm.compare.run(graph, ["torch", "onnxruntime", "ios"], "cpu")

This package is also imported by the processes that the frameworks run in, some of them with an interpreter that has
NumPy and the framework only: what needs more is imported where it is used.
"""

from __future__ import annotations

from iosfarm.compare.rows import Row as Row
from iosfarm.compare.rows import Status as Status
from iosfarm.compare.runner import run as run
