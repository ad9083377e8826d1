"""Where the devices of a selector are, and which processes are to hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from iosfarm.farm.executors.ray_cluster import Node
from iosfarm.farm.executors.ray_host import PROCESSES, Host
from iosfarm.ir.errors import UsageError
from iosfarm.zoo.device_selector import Selector

Slot = tuple[str, str, int]
"""A selector, a machine's id, and a number among its devices of that kind."""


class OtherModelError(UsageError):
    """A device that a selector does not mean."""


def places(
    nodes: Sequence[Node], selector: str, chosen: Selector, taken: Mapping[str, Host], unfit: Collection[Slot] = ()
) -> list[Host]:
    """Hosts for the devices that are not `taken` yet (by name) and not known to be `unfit` for the selector: one a GPU,
    one a machine's processor. Simulated devices are spread over the machines, and share processes where they are many.

    Raises:
        UsageError: no machine, or no GPU, of that description.
    """
    able = [node for node in nodes if chosen.takes_node(*node.names)]
    if not able:
        known = ", ".join(node.name for node in nodes[:5])
        raise UsageError("no machine of the cluster has that name", where=selector, hint=f"there are {known}")
    if chosen.simulated:
        return _simulated(able, selector, chosen, taken)
    if chosen.kind == "cuda":
        slots = [(node, number) for node in able for number in range(node.gpus)]
        if not slots and len(nodes) == 1:
            slots = [(able[0], 0)]  # what is missing there, its worker can tell
        if not slots and not taken:
            hint = "Ray finds none on its machines: see iosfarm doctor there"
            raise UsageError("no GPU in the cluster", where=selector, hint=hint)
    else:
        # A machine that gives no cores out (a head node, often) is not to measure.
        slots = [(node, 0) for node in able if node.cores or len(able) == 1]
    hosts = []
    there = {(host.node.id, host.number) for host in taken.values() if chosen.worker in host.specs.values()}
    fit = [(node, number) for node, number in slots if (selector, node.id, number) not in unfit]
    for node, number in fit[: chosen.count]:
        name = _name(chosen.worker, number, sum(1 for other, _ in slots if other is node), node, len(nodes))
        if (node.id, number) not in there and name not in taken:
            gpus = int(chosen.kind == "cuda" and node.gpus > 0)
            hosts.append(Host(node, {name: chosen.worker}, selector, number, gpus))
    return hosts


def _simulated(able: Sequence[Node], selector: str, chosen: Selector, taken: Mapping[str, Host]) -> list[Host]:
    where: dict[Node, list[str]] = {}
    has = Counter(taken[name].node.id for name in chosen.names if name in taken)
    for name in chosen.names:
        if name not in taken:
            node = min(able, key=lambda node: has[node.id])  # the first of those with the fewest
            where.setdefault(node, []).append(name)
            has[node.id] += 1
    hosts = []
    for node, names in where.items():
        processes = min(PROCESSES, len(names))
        for first in range(processes):
            hosts.append(Host(node, dict.fromkeys(names[first::processes], chosen.worker), selector))
    return hosts


def _name(worker: str, number: int, on_node: int, node: Node, nodes: int) -> str:
    name = f"{worker}#{number}" if on_node > 1 else worker
    return name if nodes == 1 else f"{name}@{node.name}"
