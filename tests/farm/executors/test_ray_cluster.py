"""Ray that does not start, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from ray._private.authentication.authentication_token_setup import generate_and_save_token

from iosfarm.farm.executors.ray_address import RayError
from iosfarm.farm.executors.ray_cluster import connect
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


def test_a_remote_traceback_is_told_by_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: object) -> None:
        raise ConnectionError('Failure from server:\nTraceback (most recent call last):\n  File "x"\nOSError: full\n')

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RayError, match=r"Ray did not start: OSError: full; try"):
        connect(None)


def test_a_token_that_ray_makes_is_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray" / "auth_token"

    def init(**settings: object) -> None:
        assert token.parent.stat().st_mode & 0o77 == 0
        generate_and_save_token()
        assert token.stat().st_mode & 0o77  # else Ray does it by now
        raise RuntimeError

    monkeypatch.setattr(ray, "init", init)
    for _ in range(2):
        with pytest.raises(RayError):
            connect(None)
        assert token.stat().st_mode & 0o777 == 0o600
        token.unlink()
    # One that is there is somebody's choice.
    token.write_text("chosen")
    token.chmod(0o640)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    connect(None)
    assert token.stat().st_mode & 0o777 == 0o640
