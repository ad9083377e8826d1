"""Rows of a query as tables of pyarrow and pandas, which are installed on request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from iosfarm.ir.errors import IosfarmError

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from iosfarm.db.query.queries import QueryRow


class MissingExtraError(IosfarmError):
    """A library that is installed on request is not."""


def arrow() -> Any:
    """The module pyarrow.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow is not installed", hint="`pip install iosfarm[arrow]`") from error
    return pyarrow


def arrow_table(rows: Sequence[QueryRow]) -> pyarrow.Table:
    """One row each, latencies in seconds; operators and environment as JSON text."""
    pa = arrow()
    types = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
    }
    kinds: dict[str, Any] = {
        **dict.fromkeys(("id", "batch", "groups", "units", "flops", "bytes_moved", "n", "attempt", "search_id"), int),
        **dict.fromkeys(("median", "mad", "minimum", "p10", "p90"), float),
        "simulated": bool,
    }
    from iosfarm.db.query.queries import QueryRow

    names = list(QueryRow.__dataclass_fields__)
    schema = pa.schema(
        [(name, pa.timestamp("us", "UTC") if name == "measured_at" else types[kinds.get(name, str)]) for name in names]
    )
    return pa.table({name: [_plain(getattr(row, name)) for row in rows] for name in names}, schema=schema)


def data_frame(rows: Sequence[QueryRow]) -> pandas.DataFrame:
    """As `arrow_table`."""
    try:
        return arrow_table(rows).to_pandas()
    except ModuleNotFoundError as error:
        raise MissingExtraError("pandas is not installed", hint="`pip install iosfarm[arrow]`") from error


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return json.dumps([{k: v for k, v in vars(item).items() if v is not None} for item in value])
    return json.dumps(value) if isinstance(value, dict) else value
