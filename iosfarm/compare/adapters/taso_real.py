"""The real TASO (github.com/jiazhihao/TASO), where somebody has built it; its optimised graph runs in ONNX Runtime.

TASO optimises by what it measures on its GPU and exports the result to ONNX, which is how its authors deploy it.
"""

from __future__ import annotations

import onnx
import taso

from iosfarm.compare.adapter import Prepared
from iosfarm.compare.adapters.onnx_runtime import session_on
from iosfarm.compare.problem import Problem

ALPHA, BUDGET = 1.05, 100
"""TASO's threshold of backtracking, and how many graphs it looks at; its example uses these."""


def prepare(problem: Problem, _: str) -> Prepared:
    """See `iosfarm.compare.adapter`."""
    optimised = taso.optimize(taso.load_onnx(str(problem.onnx)), alpha=ALPHA, budget=BUDGET)
    path = problem.folder / "taso.onnx"
    onnx.save(taso.export_onnx(optimised), str(path))
    return session_on(problem, path, f"taso {getattr(taso, '__version__', '')}".strip())
