"""Python's garbage collector during a search: less often, and afterwards as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from iosfarm.ir.collector import YOUNG, seldom_collecting


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.set_threshold(*before)
    (gc.enable if enabled else gc.disable)()


def test_less_often_within_and_as_before_after() -> None:
    gc.set_threshold(500, 7, 9)
    with seldom_collecting():
        assert gc.get_threshold() == (YOUNG, 7, 9)
    assert gc.get_threshold() == (500, 7, 9)


def test_as_before_after_an_error() -> None:
    gc.set_threshold(500, 7, 9)
    with pytest.raises(KeyboardInterrupt), seldom_collecting():
        raise KeyboardInterrupt
    assert gc.get_threshold() == (500, 7, 9)


@pytest.mark.parametrize("first", [0, YOUNG, 3 * YOUNG])
def test_what_is_as_seldom_already_is_left_alone(first: int) -> None:
    gc.set_threshold(first, 7, 9)
    with seldom_collecting():
        assert gc.get_threshold() == (first, 7, 9)
    assert gc.get_threshold() == (first, 7, 9)


def test_a_collector_that_is_off_stays_off() -> None:
    gc.set_threshold(500, 7, 9)
    gc.disable()
    with seldom_collecting():
        assert gc.get_threshold() == (500, 7, 9)
    assert not gc.isenabled()


def test_what_was_set_meanwhile_stays() -> None:
    gc.set_threshold(500, 7, 9)
    with seldom_collecting():
        gc.set_threshold(600, 7, 9)
    assert gc.get_threshold() == (600, 7, 9)
