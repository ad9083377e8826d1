"""Ray that does not start."""

from __future__ import annotations

import pytest
import ray

from iosfarm.farm.ray_cluster import connect
from iosfarm.ir.errors import IosfarmError


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (None, "Ray did not start: The current node timed out during startup. Is it busy?; try --executor process"),
        ("ray://", "not the address of a Ray cluster"),
    ],
)
def test_what_ray_raises_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, address: str | None, told: str) -> None:
    def init(**settings: object) -> None:
        raise Exception("The current node timed out during startup.\nIs it busy?")

    monkeypatch.setattr(ray, "init", init)  # Ray waits for half a minute before it says so
    with pytest.raises(IosfarmError) as caught:
        connect(address)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
