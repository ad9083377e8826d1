"""State space, solvers, bounds, baselines; called as a function, `iosfarm.search(graph, …)`, it searches."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """Lets `iosfarm.search` be this package and the public function at once, whatever is imported first."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """See `iosfarm.farm.api.search`."""
        from iosfarm.farm.api import search

        return search(*args, **settings)


sys.modules[__name__].__class__ = _CallableModule
