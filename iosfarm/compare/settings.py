"""How a comparison is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from iosfarm.ir.errors import UsageError

if TYPE_CHECKING:
    from iosfarm.compare.rows import Row

Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """timeout: seconds that a framework may take to prepare, or for one turn. seconds: of timing, for each framework.
    rounds: turns that each one has at least. precision: relative standard error of a median that is good enough.
    budget: of the search for iosfarm's own schedule, where the database has none. trials: that TVM may tune with.
    pythons: framework -> another interpreter, for one that cannot share this environment.
    """

    timeout: float = 600.0
    seconds: float = 6.0
    rounds: int = 5
    precision: float = 0.005
    budget: str = "2m"
    trials: int = 64
    profile: bool = True
    seed: int = 0
    pythons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("timeout", self.timeout), ("seconds", self.seconds), ("rounds", self.rounds)):
            if not 0 < value < float("inf"):
                raise UsageError(f"--{name} {value:g}", hint="give a number above zero")
        for name, python in self.pythons.items():
            if not Path(python).is_file():
                raise UsageError(f"there is no interpreter {python}", where=f"--python {name}")


@dataclass(frozen=True)
class Watch:
    """Who wants to know: `say` of what is under way, `done` of each row, `stop` whether the user wants to stop."""

    say: Report = lambda _: None
    done: Callable[[Row], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
