"""What is wrong with a `zoo.yaml` beyond its form: names, arguments, files, labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from iosfarm.zoo.registry import NETWORKS, check_arguments, nearest
from iosfarm.zoo.yaml_tree import Mistake, Tree
from iosfarm.zoo.zoo_mistakes import in_our_words
from iosfarm.zoo.zoo_settings import LIBRARIES, SOURCES, is_label


def check_entries(tree: Tree, folder: Path) -> Iterator[Mistake]:
    """What pydantic does not know: names, arguments, files, labels. Looks at plain values, so that mistakes of either
    kind are reported together; what has the wrong type is left to pydantic.
    """
    assert isinstance(tree.values, dict)
    models = tree.values.get("models")
    labels: dict[str, int] = {}
    for position, entry in enumerate(models if isinstance(models, list) else []):
        if not isinstance(entry, dict):
            continue
        at = ("models", position)
        yield from _check_model(tree, at, entry, folder)
        label = label_of(entry)
        if "label" not in entry and label and not is_label(label):
            yield Mistake(tree.line(at), f"{label!r} cannot name a schedule file", "give the model a label")
        if label in labels:
            what = f"two models are called {label!r}"
            yield Mistake(tree.line((*at, "label")), what, f"give one a label; the other is in line {labels[label]}")
        elif label:
            labels[label] = tree.line(at)


def _check_model(tree: Tree, at: tuple[str | int, ...], entry: dict[str, object], folder: Path) -> Iterator[Mistake]:
    name, arguments = entry.get("name"), entry.get("arguments")
    given = [key for key in SOURCES if (*at, key) in tree.key_lines]
    if len(given) != 1:
        what = f"{' and '.join(given)} are given" if given else "there is no network"
        yield Mistake(tree.line(at), what, f"give one of {', '.join(SOURCES)}")
    for key in ("graph", "onnx", "pt2", "weights"):
        file = entry.get(key)
        if isinstance(file, str) and not (folder / file).is_file():
            yield Mistake(tree.line((*at, key)), f"{key}: there is no file {folder / file}")
    if isinstance(name, str) and name not in NETWORKS:
        yield Mistake(tree.line((*at, "name")), f"unknown model {name!r}", nearest(name, NETWORKS))
    elif isinstance(name, str) and isinstance(arguments, dict):
        for mistake in check_arguments(NETWORKS[name], arguments):
            line = tree.line((*at, "arguments", mistake.argument), key=True)
            yield Mistake(line, mistake.what, in_our_words(mistake.hint))
    for key, takers in (("arguments", ("name", *LIBRARIES)), ("inputs", ("pt2", *LIBRARIES)),
                        ("bindings", ("onnx",)), ("strict", ("onnx", "pt2", *LIBRARIES))):  # fmt: skip
        if entry.get(key) and given and given[0] not in takers:
            what = f"only {', '.join(takers)} take{'s' if len(takers) == 1 else ''} {key}"
            yield Mistake(tree.line((*at, key), key=True), what)
    if isinstance(entry.get("torch"), str) and ":" not in str(entry["torch"]):
        yield Mistake(
            tree.line((*at, "torch")), f"torch: {entry['torch']!r} is no factory", "write package.module:factory"
        )


def label_of(entry: Mapping[str, Any]) -> str:
    """The label, or what stands for it; empty where there is none."""
    label = entry.get("label")
    if isinstance(label, str) and label:
        return label
    source = next((key for key in SOURCES if isinstance(entry.get(key), str)), None)
    if source is None:
        return ""
    text = str(entry[source])
    if source in ("graph", "onnx", "pt2"):
        return Path(text).stem
    return text.rsplit(":", 1)[-1].rsplit(".", 1)[-1] if source == "torch" else text
