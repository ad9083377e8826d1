"""The methods of `LatencyDatabase` about leases: several drivers on one database share the work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from iosfarm.db.connection.handle import Handle
from iosfarm.db.lease_rows import end_all_leases, end_leases, lease_owners, renew_leases, take_leases
from iosfarm.db.measurements import Recorded, beneath, usable
from iosfarm.ir.device import Device, Environment


@dataclass(frozen=True)
class Claims:
    """What became of a claim; each stage key is in one of the three.

    granted: nobody else is granted it until the lease is ended or expires. held: by another owner; ask again later.
    measured: there is a measurement to use, and no lease.
    """

    granted: frozenset[str]
    held: frozenset[str]
    measured: Mapping[str, Recorded]


class Leases(Handle):
    """Who is about to measure what.

    A lease is for one stage on one kind of device (`Device.key`) in one environment (`Environment.hard_key`): just
    what a measurement can be reused for. It ends when its owner records a measurement of the stage (`record` with
    `owner`), gives it back, or lets it expire. Expiry is judged by the database's clock.

    owner: any text that no other process uses. A driver claims what it is about to measure, renews all its leases
    every third of `lease_seconds` or so, records with `owner`, and releases the rest when it stops. While a lease is
    alive, no other owner is granted its stage; one that has claimed it before it was recorded is told the measurement
    when it claims again. An owner whose leases expired may still record: what was measured is true.
    """

    def claim_stages(
        self,
        keys: Iterable[str],
        device: Device,
        environment: Environment,
        owner: str,
        lease_seconds: float,
        *,
        known: Mapping[str, int] | None = None,
    ) -> Claims:
        """Claims named stages, all in one transaction, which also looks whether they have been measured meanwhile.

        known: by stage key, the largest id of a measurement that the caller knows of and does not find good enough:
        only one that was recorded later makes the stage `measured`. Without it, any usable one does.

        Raises:
            TransientDatabaseError: try again; stages that were granted all the same are granted again.
        """
        every = frozenset(keys)
        # An overlay does not change: it is asked before, and only for what the caller does not know.
        lower = beneath(self, sorted(every - (known or {}).keys()), device, environment)
        wanted = every - lower.keys()
        if not every:
            return Claims(frozenset(), frozenset(), {})
        with self._transaction(write=True) as connection:
            taken = take_leases(connection, wanted, device, environment, owner, lease_seconds)
            # After taking: what another owner recorded before giving up a lease that is ours now can be seen now.
            measured = usable(connection, sorted(every), device, environment, self.name, known)
            needless = taken & measured.keys()
            if needless:
                end_leases(connection, needless, device, environment, owner)
        held = wanted - taken - measured.keys()
        return Claims(frozenset(taken - needless), held, {**lower, **measured})

    def heartbeat(self, owner: str, lease_seconds: float) -> int:
        """Renews all leases of an owner, those that expired and were not taken by others included; returns how many."""
        with self._transaction(write=True) as connection:
            return renew_leases(connection, owner, lease_seconds)

    def release_stages(self, keys: Iterable[str], device: Device, environment: Environment, owner: str) -> int:
        """Gives leases back without a measurement; returns how many there were."""
        with self._transaction(write=True) as connection:
            return end_leases(connection, keys, device, environment, owner)

    def lease_owners(self) -> list[str]:
        """Who holds leases: whoever knows that one of them is dead may `release` what he holds."""
        with self._transaction(write=False) as connection:
            return lease_owners(connection)

    def release(self, owner: str) -> int:
        """Gives all leases of an owner back; returns how many there were."""
        with self._transaction(write=True) as connection:
            return end_all_leases(connection, owner)
