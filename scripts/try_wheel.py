"""Tries an installed iosfarm: `try_wheel.py SITE CHECKOUT`. Exits with a message where something is missing.

SITE is where the wheel was installed; nothing of iosfarm may come from CHECKOUT.
"""

from __future__ import annotations

import importlib
import importlib.resources
import sys
import tempfile
from pathlib import Path

ROOMS = ("iosfarm", "iosfarm.db", "iosfarm.kernels", "iosfarm.workers", "iosfarm.ir", "iosfarm.search")


def main(site: Path, checkout: Path) -> None:
    """Import every room, compare the data files with the checkout's, migrate a new database."""
    for name in ROOMS:
        try:
            origin = importlib.import_module(name).__file__
        except ImportError as error:
            sys.exit(f"error: {name} cannot be imported from the wheel: {error}")
        if origin is None or not Path(origin).resolve().is_relative_to(site.resolve()):
            sys.exit(f"error: {name} comes from {origin}, not from the wheel in {site}")

    data = (("kernels", "*.cu"), ("kernels", "*.cuh"), ("db", "*.mako"), ("db", "*.py"), ("report", "page/*"))
    for room, pattern in data:
        packaged = importlib.resources.files(f"iosfarm.{room}")
        for source in sorted((checkout / "iosfarm" / room).rglob(pattern)):
            path = source.relative_to(checkout / "iosfarm" / room)
            copy = packaged.joinpath(*path.parts)
            if not copy.is_file() or copy.read_bytes() != source.read_bytes():
                sys.exit(f"error: {room}/{path} is not in the wheel")

    from iosfarm.db import LatencyDatabase

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "100% new.db")  # a percent sign is alembic's own escape character
        LatencyDatabase(f"sqlite:///{file}")
        if not file.is_file():
            sys.exit(f"error: LatencyDatabase made no {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
