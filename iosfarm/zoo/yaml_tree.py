"""YAML as plain values that remember their lines, from a file that nobody vouches for.

Only scalars, lists and mappings with text keys; no tags, no repeated keys, no merge keys, and no more values than a
person writes, however often an alias repeats them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

Location = tuple[str | int, ...]
"""Keys and positions from the top, e.g. ("models", 0, "name")."""

MAX_BYTES = 1 << 20
MAX_VALUES = 10_000
MAX_DEPTH = 20

_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool"))


@dataclass(frozen=True, order=True)
class Mistake:
    """One thing that is wrong. line: counted from 1; 0 where it is the whole file."""

    line: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return " ".join((f"{self.what}; {self.hint}" if self.hint else self.what).split())


@dataclass
class Tree:
    """values: what the file holds, without what was mistaken. lines: of values; key_lines: of the keys before them."""

    values: object = None
    lines: dict[Location, int] = field(default_factory=dict)
    key_lines: dict[Location, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, location: Sequence[str | int], *, key: bool = False) -> int:
        """Line of a value (or of its key), or of the nearest thing around it that is there."""
        lines = self.key_lines if key else self.lines
        for length in range(len(location), -1, -1):
            found = lines.get(tuple(location[:length])) or self.lines.get(tuple(location[:length]))
            if found is not None:
                return found
        return 1


class _TooLarge(Exception):  # noqa: N818 - ends the walk, never leaves this file
    pass


def read_tree(path: Path) -> Tree:
    """The values of a YAML file; everything that keeps it from being read is among the mistakes."""
    tree = Tree()
    text = _text(path, tree)
    if text is None:
        return tree
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            tree.mistakes.append(Mistake(0, "the file is empty", "expected `models:` and a list"))
        else:
            tree.values = _Walk(tree).value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "not YAML"
        tree.mistakes.append(Mistake(mark.line + 1 if mark else 0, f"not YAML: {problem}"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        tree.mistakes.append(Mistake(line, f"the character {error.character:#x} is not allowed in YAML"))
    except (_TooLarge, RecursionError):
        message = f"more than {MAX_VALUES:,} values, or more than {MAX_DEPTH} levels deep"
        tree.mistakes.append(Mistake(0, message, "an alias may repeat too much"))
    return tree


def _text(path: Path, tree: Tree) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        tree.mistakes.append(Mistake(0, f"cannot read it: {error.strerror}", "expected a zoo.yaml file"))
        return None
    if len(data) > MAX_BYTES:
        tree.mistakes.append(Mistake(0, f"the file is larger than {MAX_BYTES // 1024} KiB"))
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        tree.mistakes.append(Mistake(data.count(b"\n", 0, error.start) + 1, "not UTF-8 text"))
        return None


class _Walk:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.count = 0
        self.scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, location: Location) -> object:
        self.count += 1
        if self.count > MAX_VALUES or len(location) > MAX_DEPTH:
            raise _TooLarge
        self.tree.lines[location] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items: list[object] = []
            for item_node in node.value:
                item = self.value(item_node, (*location, len(items)))
                if item is not None:
                    items.append(item)
            return items
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                scalar: object = self.scalars.construct_object(node)
            except ValueError:
                return self._mistake(node, f"{node.value[:40]!r} is not a value", "put text in quotes")
            return scalar
        if node.tag == _TAG + "null":
            name = location[-1] if location else "the file"
            return self._mistake(node, f"{name} has no value", "give it one, or remove it")
        if node.tag == _TAG + "timestamp":
            return self._mistake(node, f"{node.value!r} is a date in YAML", "put it in quotes")
        return self._mistake(node, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed", "write plain values")

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, object]:
        result: dict[str, object] = {}
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                self._mistake(key_node, "merge keys (<<) are not supported", "put what is shared under `defaults:`")
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                self._mistake(key_node, "a key must be a word")
                continue
            key = key_node.value
            if key in seen:
                self._mistake(key_node, f"{key!r} comes twice", f"it is also in line {seen[key]}")
                continue
            seen[key] = line
            self.tree.key_lines[*location, key] = line
            value = self.value(value_node, (*location, key))
            if value is not None:
                result[key] = value
        return result

    def _mistake(self, node: yaml.Node, what: str, hint: str = "") -> object:
        """Note a mistake; the value is left out."""
        self.tree.mistakes.append(Mistake(node.start_mark.line + 1, what, hint))
        return None
