"""Several networks, one after the other, written down as soon as each is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.compare.document import Comparison, NetworkRows
from iosfarm.compare.rows import Status
from iosfarm.compare.runner import run
from iosfarm.compare.settings import Settings, Watch

if TYPE_CHECKING:
    from iosfarm.farm.executors.executor import DeviceInfo
    from iosfarm.ir.graph import Graph
    from iosfarm.kernels.runtime import Weights


@dataclass(frozen=True)
class Model:
    """A network to compare on; without weights it gets random ones."""

    graph: Graph
    weights: Weights | None


def load_models(names: Sequence[str], batch: int, dtype: str) -> list[Model]:
    """Networks by name or file, for a batch size and dtype.

    Raises:
        UsageError: there is no such network, or it cannot be bound so.
    """
    from iosfarm.zoo.load import load_network

    found = []
    for name in names:
        network = load_network(name)
        found.append(Model(network.graph.bind(batch=batch, dtype=dtype), network.weights or None))
    return found


def compare(
    models: Sequence[Model],
    frameworks: Sequence[str],
    device: str,
    info: DeviceInfo,
    folder: Path,
    *,
    database: str | None,
    settings: Settings,
    watch: Watch,
    done: Callable[[NetworkRows], None] = lambda _: None,
) -> Comparison:
    """Compare on each network; the folder has what is done at any time. What the user stops is marked as partial.

    Raises:
        UsageError, OutputError.
    """
    comparison = Comparison(info)
    for model in models:
        if watch.stop():
            comparison.interrupted = True
            break
        rows = run(
            model.graph, frameworks, device, weights=model.weights, database=database, settings=settings, watch=watch
        )
        complete = not watch.stop() and all(row.status is not Status.NOT_RUN for row in rows)
        comparison.interrupted |= not complete
        comparison.networks.append(NetworkRows.of(model.graph, rows, complete))
        comparison.write(folder)
        done(comparison.networks[-1])
    comparison.write(folder)
    return comparison
