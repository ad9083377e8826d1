"""The latency database: what was measured, so that it need not be measured again. See `LatencyDatabase`."""

if not __name__.startswith("iosfarm."):
    raise ImportError("import iosfarm.db, not db: a second copy of every module would be loaded")

from iosfarm.db.database import LatencyDatabase
from iosfarm.db.errors import DatabaseError, DatabaseUrlError, TransientDatabaseError
from iosfarm.db.leases import Claims
from iosfarm.db.location import default_path
from iosfarm.db.measurements import Recorded
from iosfarm.db.queries import QueryRow
from iosfarm.db.runs import RunRow, RunSummary
from iosfarm.db.schema import OutdatedDatabaseError
from iosfarm.db.searches import ScheduledStageRow, ScheduleRow, SearchRow, SearchState
from iosfarm.db.statistics import DatabaseStatistics, DeviceStatistics

__all__ = [
    "Claims",
    "DatabaseError",
    "DatabaseStatistics",
    "DatabaseUrlError",
    "DeviceStatistics",
    "LatencyDatabase",
    "OutdatedDatabaseError",
    "QueryRow",
    "Recorded",
    "RunRow",
    "RunSummary",
    "ScheduleRow",
    "ScheduledStageRow",
    "SearchRow",
    "SearchState",
    "TransientDatabaseError",
    "default_path",
]
