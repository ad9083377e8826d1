"""The public names of the package, and what they cost to import."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import iosfarm

SLOW = ("torch", "ray", "cupy", "numba", "sqlalchemy", "alembic", "numpy", "pydantic")


def test_public_names_are_pinned() -> None:
    assert iosfarm.__all__ == [
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
    assert set(iosfarm.__all__) <= set(dir(iosfarm))


@pytest.mark.parametrize("name", [name for name in iosfarm.__all__ if name != "__version__"])
def test_public_name_is_there(name: str) -> None:
    assert callable(getattr(iosfarm, name))


def test_version_is_the_distributions() -> None:
    assert iosfarm.__version__ == importlib.metadata.version("iosfarm")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'iosfarm' has no attribute 'serach'"):
        _ = iosfarm.serach  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "imports",
    [
        "import iosfarm; first = iosfarm.search; import iosfarm.search as second",
        "import iosfarm.search as first; import iosfarm; second = iosfarm.search",
        "from iosfarm import search as first; from iosfarm.search import __doc__; import iosfarm.search as second",
    ],
)
def test_search_is_package_and_function_in_any_order(imports: str) -> None:
    """What is called is `iosfarm.farm.api.search`, with the arguments as they were given."""
    code = f"""
import sys, types
api = types.ModuleType("iosfarm.farm.api")
api.search = lambda *args, **settings: (args, settings)
sys.modules["iosfarm.farm.api"] = api
{imports}
assert first is second and isinstance(first, types.ModuleType) and first.__path__
assert first("graph", device="cpu") == (("graph",), {{"device": "cpu"}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import iosfarm",
        "import sys; from iosfarm.cli.main import run; assert run(['--help']) == 0",
        "import sys; from iosfarm.cli.main import run; assert run(['--version']) == 0",
    ],
)
def test_start_loads_nothing_slow(tmp_path: Path, code: str) -> None:
    tell = f"import json, sys; print(json.dumps([m for m in {SLOW!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
