"""The latency database: what was measured, so that it need not be measured again. See `LatencyDatabase`."""

if not __name__.startswith("iosfarm."):
    raise ImportError("import iosfarm.db, not db: a second copy of every module would be loaded")

from iosfarm.db.comparing import ClassRatio, Comparison
from iosfarm.db.covering import Coverage, Forecast
from iosfarm.db.database import LatencyDatabase
from iosfarm.db.errors import DatabaseError, DatabaseUrlError, TransientDatabaseError
from iosfarm.db.exchange import ImportReport, Rejected
from iosfarm.db.filters import Conditions
from iosfarm.db.leases import Claims
from iosfarm.db.location import default_path
from iosfarm.db.measurements import Batch, Recorded
from iosfarm.db.pruning import PruneReport
from iosfarm.db.queries import QueryRow
from iosfarm.db.runs import RunRow, RunSummary
from iosfarm.db.sampling import KnownDevice
from iosfarm.db.schema import OutdatedDatabaseError
from iosfarm.db.searches import ScheduledStageRow, ScheduleRow, SearchRow, SearchState
from iosfarm.db.sql import SqlResult
from iosfarm.db.statistics import DatabaseStatistics, DeviceStatistics
from iosfarm.db.transfer import Transferred

__all__ = [
    "Batch",
    "Claims",
    "ClassRatio",
    "Comparison",
    "Conditions",
    "Coverage",
    "DatabaseError",
    "DatabaseStatistics",
    "DatabaseUrlError",
    "DeviceStatistics",
    "Forecast",
    "ImportReport",
    "KnownDevice",
    "LatencyDatabase",
    "OutdatedDatabaseError",
    "PruneReport",
    "QueryRow",
    "Recorded",
    "Rejected",
    "RunRow",
    "RunSummary",
    "ScheduleRow",
    "ScheduledStageRow",
    "SearchRow",
    "SearchState",
    "SqlResult",
    "Transferred",
    "TransientDatabaseError",
    "default_path",
]
