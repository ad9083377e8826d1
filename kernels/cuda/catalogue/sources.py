"""The kernels' source text, complete: a compiler needs no include path."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

SOURCES = files("iosfarm.kernels.cuda") / "sources"
"""The folder with the `.cu` files and their headers."""

_INCLUDE = re.compile(r'^#include "(?P<name>[\w.]+)"\n', re.MULTILINE)


@cache
def source_text(name: str) -> str:
    """The text of a `.cu` file with the headers that it includes in their places."""
    seen: set[str] = set()

    def text(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        raw = (SOURCES / file).read_text(encoding="utf-8")
        return _INCLUDE.sub(lambda match: text(match["name"]), raw.replace("#pragma once\n", ""))

    return text(name)


def source_names() -> list[str]:
    """All `.cu` files, sorted."""
    return sorted(item.name for item in SOURCES.iterdir() if item.name.endswith(".cu"))
