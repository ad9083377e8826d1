"""`zoo.yaml`: which models to search, for which batch sizes, dtypes and devices, and how."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.search.budget import Budget
from iosfarm.zoo.load import Network, load_network
from iosfarm.zoo.registry import NETWORKS, argument_types
from iosfarm.zoo.yaml_tree import Mistake, read_tree
from iosfarm.zoo.zoo_checks import check_entries, label_of
from iosfarm.zoo.zoo_mistakes import mistake_of
from iosfarm.zoo.zoo_settings import LIBRARIES, SOURCES, ModelEntry, Settings, ZooFile


class ZooError(UsageError):
    """A `zoo.yaml` with mistakes; `str()` has a line for each, under their number where there are more than one."""

    def __init__(self, path: Path, mistakes: Sequence[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes", where=str(path))
        self.path = path
        self.mistakes = tuple(sorted(mistakes))

    def __str__(self) -> str:
        if len(self.mistakes) != 1:
            lines = (f"line {m.line}: {m}" if m.line else str(m) for m in self.mistakes)
            return "\n  ".join([f"{self.path}: {self.what}", *lines])
        (only,) = self.mistakes
        return f"{self.path}:{only.line}: {only}" if only.line else f"{self.path}: {only}"

    def __reduce__(self) -> tuple[object, ...]:
        return ZooError, (self.path, self.mistakes)


@dataclass(frozen=True)
class ModelSpec:
    """What to load. source: a key of an entry, one of `SOURCES`. model: what stands there, a path resolved. options: of
    `import_file`, `import_archive` or `import_named`. inputs: of a `.pt2` file, as the entry has them. Loaded once,
    whatever asks.
    """

    source: str
    model: str | Path
    label: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Sequence[int]] | None = None

    @cached_property
    def network(self) -> Network:
        """The network, batch 1, float32, with its weights if it has any of its own.

        Raises:
            UsageError: see `iosfarm.load`, and `iosfarm.frontends.named.import_named`.
        """
        if self.source in LIBRARIES:
            from iosfarm.frontends.named import import_named

            found = import_named(
                self.source, str(self.model), arguments=self.arguments, label=self.label, **self.options
            )
            return Network(found.graph, found.weights, found.notices, found.signature)
        if self.source == "pt2":
            return load_network(self.model, **self.options, **_examples(self.inputs))
        return load_network(self.model, **self.arguments, **self.options)

    def load(self) -> Graph:
        """The graph, batch 1, float32; raises as `network` does."""
        return self.network.graph


@dataclass(frozen=True)
class ZooSettings:
    """How to search; None leaves it to the search's own default."""

    method: str | None = None
    gap: float | None = None
    certificate: str | None = None
    confidence: float | None = None
    budget: Budget | None = None
    max_group_size: int | None = None
    max_groups: int | None = None
    strategies: tuple[str, ...] | None = None
    endings: str | None = None
    max_part_size: int | None = None


@dataclass(frozen=True)
class ZooJob:
    """One model for one batch size, dtype and device. weights None: random ones from `seed`."""

    label: str
    model: ModelSpec
    batch: int
    dtype: str
    device: str
    settings: ZooSettings
    weights: Path | None = None
    seed: int = 0

    def load(self) -> Graph:
        """The graph, bound to the batch size and dtype.

        Raises:
            UsageError: see `iosfarm.load`.
        """
        return self.model.load().bind(batch=self.batch, dtype=self.dtype)


@dataclass(frozen=True)
class Zoo:
    """A validated `zoo.yaml`. Relative paths in it are relative to its folder."""

    path: Path
    file: ZooFile

    def jobs(self) -> list[ZooJob]:
        """Every model × device × batch size × dtype, in the order of the file."""
        return [job for entry in self.file.models for job in self._jobs(entry)]

    def _jobs(self, entry: ModelEntry) -> Iterator[ZooJob]:
        merged = {
            name: getattr(self.file.defaults, name) if (value := getattr(entry, name)) is None else value
            for name in Settings.model_fields
        }
        batches, dtypes, devices = (merged.pop(name) for name in ("batch_sizes", "dtypes", "devices"))
        seed = merged.pop("seed") or 0
        if merged["strategies"] is not None:
            merged["strategies"] = tuple(merged["strategies"])
        settings = ZooSettings(**merged)
        folder = self.path.parent
        label = label_of(entry.model_dump())
        model = self._model(entry, label)
        # Weights of a torch module are given to the module; those of other networks are a graph's.
        weights = folder / entry.weights if entry.weights and model.source not in LIBRARIES else None
        for device in devices or ["auto"]:
            for dtype in dtypes or ["float32"]:
                for batch in batches or [1]:
                    yield ZooJob(label, model, batch, dtype, device, settings, weights, seed)

    def _model(self, entry: ModelEntry, label: str) -> ModelSpec:
        folder = self.path.parent
        source = next(key for key in SOURCES if getattr(entry, key) is not None)
        text: str = getattr(entry, source)
        if source == "name":
            types = argument_types(NETWORKS[text])
            arguments = {name: self._resolved(value, types[name]) for name, value in entry.arguments.items()}
            return ModelSpec(source, text, label, arguments)
        if source == "graph":
            return ModelSpec(source, folder / text, label)
        if source == "onnx":
            return ModelSpec(source, folder / text, label, options={"bindings": entry.bindings, "strict": entry.strict})
        if source == "pt2":
            return ModelSpec(source, folder / text, label, options={"strict": entry.strict}, inputs=entry.inputs)
        state = folder / entry.weights if entry.weights else None
        options = {"inputs": entry.inputs, "state": state, "strict": entry.strict, "folder": folder}
        return ModelSpec(source, text, label, entry.arguments, options)

    def _resolved(self, value: object, kind: object) -> object:
        """`value`, with the paths in it relative to the zoo's folder."""
        if not _mentions_paths(kind):
            return value
        return [self.path.parent / str(item) for item in value] if isinstance(value, list) else value


def load_zoo(path: str | Path) -> Zoo:
    """Read and check a `zoo.yaml`.

    Raises:
        ZooError: everything that is wrong with it, each with its line.
    """
    path = Path(path)
    tree = read_tree(path)
    if tree.values is None:
        raise ZooError(path, tree.mistakes)
    mistakes = list(tree.mistakes)
    if not isinstance(tree.values, dict):
        raise ZooError(path, [*mistakes, Mistake(1, "not a zoo", "expected `models:` and a list of models")])
    try:
        file = ZooFile.model_validate(tree.values)
    except ValidationError as error:
        mistakes += [mistake_of(details, tree) for details in error.errors()]
    mistakes += check_entries(tree, path.parent)
    if mistakes:
        raise ZooError(path, list(dict.fromkeys(mistakes)))
    return Zoo(path, file)


def _examples(inputs: Sequence[Sequence[int]] | None) -> dict[str, Any]:
    """Example inputs of these shapes, which are without the batch."""
    if inputs is None:
        return {}
    import torch

    return {"example_inputs": [torch.empty(1, *shape, device="meta") for shape in inputs]}


def _mentions_paths(kind: object) -> bool:
    return kind is Path or any(_mentions_paths(argument) for argument in typing.get_args(kind))
