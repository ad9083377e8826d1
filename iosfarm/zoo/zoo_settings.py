"""What a `zoo.yaml` may say: pydantic models of its `defaults` and of an entry of `models`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from iosfarm.ir.errors import UsageError
from iosfarm.search.budget import Budget
from iosfarm.zoo.device_selector import Selector

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_LABEL = 100  # file names end at 255 bytes, and a schedule's name holds more than the label
_SECONDS = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_STAGES = re.compile(r"(\d+)stages?")


def parse_budget(value: object) -> Budget:
    """A budget of "90s", "10m", "1h30m", "300" or a number, which are seconds, or of "500 stages".

    Raises:
        ValueError: it is none of these, or below zero.
    """
    seconds: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (text := value.replace(" ", "")):
        if stages := _STAGES.fullmatch(text):
            return Budget(stages=int(stages.group(1)))
        if match := _SECONDS.fullmatch(text):
            seconds = sum(float(n) * factor for n, factor in zip(match.groups(), (3600, 60, 1), strict=True) if n)
    if seconds is None or not 0 <= seconds < float("inf"):
        raise ValueError(
            "expected a time such as 10m, 300s or 1h30m, a number of seconds, or a number such as 500 stages"
        )
    return Budget(seconds=seconds)


def _device(value: str) -> str:
    """Whether the text names devices; not whether they are here."""
    try:
        Selector.parse(value)
    except UsageError as error:
        raise ValueError(f"{error.what}; {error.hint}") from None
    return value


def _label(value: str) -> str:
    if len(value) > _LONGEST_LABEL:
        raise ValueError(f"expected at most {_LONGEST_LABEL} characters: it becomes a file name")
    if not is_label(value):
        raise ValueError("expected letters, digits, dots, dashes and underscores: it becomes a file name")
    return value


def is_label(value: str) -> bool:
    """Whether it can be part of a file name everywhere."""
    return len(value) <= _LONGEST_LABEL and _LABEL.fullmatch(value) is not None


def _distinct(values: list[Any]) -> list[Any]:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError("expected each value once")
    return values


_List = [Field(min_length=1), AfterValidator(_distinct)]
Batches = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], *_List]
Dtypes = Annotated[list[Literal["float32", "float16", "bfloat16"]], *_List]
Devices = Annotated[list[Annotated[str, AfterValidator(_device)]], *_List]
Strategies = Annotated[list[Literal["concurrent", "merge"]], *_List]


class Settings(BaseModel):
    """What `defaults` and every model may set; None is not given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    batch_sizes: Batches | None = None
    dtypes: Dtypes | None = None
    devices: Devices | None = None
    method: Literal["certified", "exhaustive"] | None = None
    gap: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    certificate: Literal["statistical", "structural"] | None = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    budget: Annotated[Budget, BeforeValidator(parse_budget)] | None = None
    max_group_size: Annotated[int, Field(ge=1, le=64)] | None = None
    max_groups: Annotated[int, Field(ge=1, le=64)] | None = None
    strategies: Strategies | None = None
    endings: Literal["complete", "paper"] | None = None
    max_part_size: Annotated[int, Field(ge=2, le=256)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


LIBRARIES = ("torch", "torchvision", "timm")
"""Keys of an entry that name something which makes a torch module."""
SOURCES = ("name", "graph", "onnx", "pt2", *LIBRARIES)
"""Keys of an entry that say where its network is from; one of them is given."""

_Size = Annotated[int, Field(ge=1, le=2**31 - 1)]


class ModelEntry(Settings):
    """An entry of `models`: a built-in network by `name`, a `graph`, `onnx` or `pt2` file, a factory of one's own
    (`torch: package.module:factory`), a model of `torchvision` or of `timm`. inputs: shapes without the batch.
    """

    name: str | None = None
    graph: str | None = None
    onnx: str | None = None
    pt2: str | None = None
    torch: str | None = None
    torchvision: str | None = None
    timm: str | None = None
    inputs: Annotated[list[Annotated[list[_Size], Field(min_length=1)]], Field(min_length=1)] | None = None
    bindings: dict[str, _Size] = {}
    strict: bool = False
    arguments: dict[str, Any] = {}
    label: Annotated[str, AfterValidator(_label)] | None = None
    weights: str | None = None


class ZooFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    defaults: Settings = Settings()
    models: Annotated[list[ModelEntry], Field(min_length=1)]
