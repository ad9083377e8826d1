"""Of what exported lines (`portable.py`) are made: the values that can be stored, and can have been measured."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

SHORTEST, LONGEST = 1e-9, 3600.0
"""Seconds that one execution of a stage can take: less than a cycle, or more than an hour, was not measured."""

_FIRST_YEAR = 2000


def storable_text(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    return text


def _plausible(moment: datetime) -> datetime:
    if moment.year < _FIRST_YEAR or moment.year > 9000:
        raise ValueError(f"nothing was measured in the year {moment.year}")
    return moment.astimezone(UTC)


Name = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(storable_text)]
Text = Annotated[str, Field(max_length=100_000), AfterValidator(storable_text)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Number = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=SHORTEST, le=LONGEST, allow_inf_nan=False)]
Time = Annotated[AwareDatetime, AfterValidator(_plausible)]
Fact = (
    StrictBool
    | Annotated[StrictInt, Field(ge=-(2**63), lt=2**64)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | StrictStr
)
Facts = dict[str, Fact]


class Line(BaseModel):
    """What all lines have in common: nothing that is not known is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)
