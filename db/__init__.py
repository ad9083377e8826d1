"""The latency database: what was measured, so that it need not be measured again. See `LatencyDatabase`."""

if not __name__.startswith("iosfarm."):
    raise ImportError("import iosfarm.db, not db: a second copy of every module would be loaded")

from iosfarm.db.connection.location import default_path
from iosfarm.db.connection.schema import OutdatedDatabaseError
from iosfarm.db.database import LatencyDatabase
from iosfarm.db.errors import DatabaseError, DatabaseUrlError, TransientDatabaseError
from iosfarm.db.exchange.exchange import ImportReport, Rejected
from iosfarm.db.leases import Claims
from iosfarm.db.measurements import Batch, Recorded
from iosfarm.db.pruning import PruneReport
from iosfarm.db.query.comparing import ClassRatio, Comparison
from iosfarm.db.query.covering import Coverage, Forecast
from iosfarm.db.query.filters import Conditions
from iosfarm.db.query.queries import QueryRow
from iosfarm.db.query.sampling import KnownDevice
from iosfarm.db.query.sql import SqlResult
from iosfarm.db.query.statistics import DatabaseStatistics, DeviceStatistics
from iosfarm.db.query.transfer import Transferred
from iosfarm.db.runs import RunRow, RunSummary
from iosfarm.db.searches import ScheduledStageRow, ScheduleRow, SearchRow, SearchState

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
