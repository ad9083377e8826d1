"""Which devices of a cluster a selector means, before anything is started there."""

from __future__ import annotations

from iosfarm.farm.executors.ray_cluster import Node
from iosfarm.farm.executors.ray_places import places
from iosfarm.zoo.device_selector import Selector

NODES = [Node("1", ("one",), 8.0, 2), Node("2", ("two",), 8.0, 1)]


def names(selector: str, unfit: set[tuple[str, str, int]]) -> list[str]:
    return [name for host in places(NODES, selector, Selector.parse(selector), {}, unfit) for name in host.specs]


def test_another_device_takes_the_place_of_one_that_is_not_fit() -> None:
    assert names("cuda", set()) == ["cuda#0@one", "cuda#1@one", "cuda@two"]
    assert names("cuda", {("cuda", "1", 0)}) == ["cuda#1@one", "cuda@two"]
    assert names("cuda?count=2", {("cuda?count=2", "1", 1)}) == ["cuda#0@one", "cuda@two"]
    assert names("cuda", {("cuda", "1", 0), ("cuda", "1", 1), ("cuda", "2", 0)}) == []


def test_a_device_that_one_selector_does_not_mean_may_be_meant_by_another() -> None:
    assert names("cuda?model=*H200*", {("cuda?model=*A100*", "1", 0)}) == names("cuda?model=*H200*", set())
