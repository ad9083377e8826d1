"""Whether the search engine has been compiled on this machine before: the first time takes seconds."""

from __future__ import annotations

from pathlib import Path

NOTE = "compiling the search engine, once on this machine"


def compiled_before() -> bool:
    """True where Numba's cache on disk holds the engine; as of this version of it and of the sources."""
    from iosfarm.search.lazy import pick

    # The index file is named after the function; an outdated one is found too, which costs a note not shown.
    return any(Path(pick.stats.cache_path).glob("lazy.pick-*.nbi"))
