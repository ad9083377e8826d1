"""Which devices to search on: `KIND?option=value&…`, as `--device` and `devices:` in a zoo write it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from urllib.parse import parse_qsl, urlencode

from iosfarm.ir.errors import UsageError
from iosfarm.kernels import KNOWN

MOST = 4096
"""Devices of one selector."""

OPTIONS = "node=NAME, model=NAME and count=N"


@dataclass(frozen=True)
class Selector:
    """Devices of one kind: those on nodes whose name or address is like `node`, and whose model is like `model`, at
    most `count` of them. Patterns are as in a shell, in upper or lower case; a part of a model's name suffices.

    worker: what a worker is opened with: the kind, and the options that a simulated device has of its own. count None:
    all that there are, or one simulated device.
    """

    worker: str
    node: str = ""
    model: str = ""
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """`cpu`, `cuda?model=*H200*`, `cpu?node=10.0.0.*`, `sim:v100?count=8&noise=0`.

        Raises:
            UsageError: no such kind or option, or a value that cannot be.
        """
        kind, _, query = text.partition("?")
        _check_named(kind, text)
        if "&" in kind and not query:
            raise UsageError("options begin with ?", where=text, hint=f"write {text.replace('&', '?', 1)}")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise UsageError(f"options {query!r}", where=text, hint="write name=value, joined by &") from None
        names = [name for name, _ in pairs]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"{twice} is given twice", where=text, hint="leave one of them out")
        ours = dict(pair for pair in pairs if pair[0] in ("node", "model", "count"))
        rest = [pair for pair in pairs if pair[0] not in ours]
        worker = f"{kind}?{urlencode(rest, safe=':*,')}" if rest else kind
        _check(kind, worker, text, [name for name, _ in rest])
        for name in ("node", "model"):
            if ours.get(name) == "":
                raise UsageError(f"an empty {name}", where=text, hint="leave it out, or say which")
        return cls(worker, ours.get("node", ""), ours.get("model", ""), _count(ours.get("count"), text))

    @property
    def kind(self) -> str:
        """`cpu`, `cuda`, `sim:v100`."""
        return self.worker.partition("?")[0]

    @property
    def simulated(self) -> bool:
        """Whether devices are made for it, rather than found."""
        return self.kind.startswith("sim:")

    @property
    def names(self) -> list[str]:
        """Of simulated devices, which are known before they are there."""
        count = self.count or 1
        return [self.worker] if count == 1 else [f"{self.worker}#{number}" for number in range(count)]

    def takes_node(self, *names: str) -> bool:
        """Whether a machine with these names and addresses is meant."""
        return not self.node or any(_like(name, self.node) for name in names)

    def takes_model(self, model: str) -> bool:
        """Whether a device of this model is meant."""
        return not self.model or _like(model, self.model) or _like(model, f"*{self.model}*")


def _like(name: str, pattern: str) -> bool:
    return fnmatch(name.lower(), pattern.lower())


def _count(value: str | None, where: str) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= MOST):
        raise UsageError(f"count is {value!r}", where=where, hint=f"use an integer from 1 to {MOST}")
    return int(value)


def _check_named(kind: str, text: str) -> None:
    """What people write where they forgot, or guessed."""
    if not kind.strip():
        raise UsageError("no device is named", where=text.strip(), hint=KNOWN)
    if "," in kind:
        hint = f"write a list in the zoo, devices: [{', '.join(kind.replace(',', ' ').split())}]"
        raise UsageError("a selector names one kind of device", where=text, hint=hint)
    if kind == "auto" and text != kind:
        raise UsageError("auto takes no options", where=text, hint=f"write {text.replace(kind, 'cpu', 1)}, or cuda")
    if (meant := kind.strip().lower()) != kind and meant in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {kind!r}", where=text, hint=f"did you mean {meant}?")


def _check(kind: str, worker: str, where: str, options: list[str]) -> None:
    if kind in ("auto", "cpu"):
        if options:
            raise UsageError(f"unknown option {options[0]!r}", where=where, hint=f"there are {OPTIONS}")
        return
    from iosfarm.kernels import check_spec

    check_spec(worker)
