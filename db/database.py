"""`LatencyDatabase`: the contract of this room. The other modules implement it."""

from __future__ import annotations

from iosfarm.db.exchange.exchange import Exchange
from iosfarm.db.leases import Leases
from iosfarm.db.measurements import Measurements
from iosfarm.db.plans import Plans
from iosfarm.db.pruning import Pruning
from iosfarm.db.quarantine import Quarantine
from iosfarm.db.query.comparing import Comparing
from iosfarm.db.query.covering import Covering
from iosfarm.db.query.queries import Queries
from iosfarm.db.query.sampling import Sampling
from iosfarm.db.query.sql import Sql
from iosfarm.db.query.statistics import Statistics
from iosfarm.db.runs import Runs
from iosfarm.db.searches import Searches


class LatencyDatabase(
    Measurements,
    Leases,
    Searches,
    Runs,
    Plans,
    Queries,
    Sql,
    Statistics,
    Exchange,
    Comparing,
    Covering,
    Sampling,
    Pruning,
    Quarantine,
):
    """What was measured, where and when; the searches that asked for it; the schedules and plans they found.

    url: a file's path, `sqlite:///PATH`, `sqlite://` (in memory) or `postgresql://USER:PASSWORD@HOST/DATABASE`;
    by default $IOSFARM_DB, else the user's data directory. readonly: nothing is written or created. timeout:
    seconds to wait for another process's lock. overlay: another database, which is only read, beneath this one:
    what `lookup`, `claim_stages` and `query` do not find here they look for there; by default $IOSFARM_DB_OVERLAY,
    else none. Its measurements have negative ids.

    A new or empty database is created. One of an older iosfarm opens, and every method but `migrate` says so in an
    error. Each method is one transaction: all of it is durable when the method returns, none of it when it raises.
    Recorded numbers are never changed. A handle may be shared by threads and pickled (not one in memory): the copy
    connects anew. It must not be used on both sides of a fork.

    Every method raises `DatabaseError`, one line without credentials: read-only, unwritable, damaged, not a database,
    another program's, newer than this program, no driver, SQLite on a network file system. Where waiting may mend it
    (locked for longer than `timeout`, full, no server, connection lost), it is a `TransientDatabaseError`.
    """
