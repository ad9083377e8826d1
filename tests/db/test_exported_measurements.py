"""Whatever was recorded comes back the same through a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from database_examples import CPU, ENVIRONMENT, NOON, stage
from hypothesis import given, settings
from hypothesis import strategies as st

from iosfarm.db import LatencyDatabase
from iosfarm.db.encoding import encode, place_of
from iosfarm.ir.measurement import Measurement, Status

samples_of = st.lists(st.floats(1e-9, 3600.0), min_size=1, max_size=20)
moments = st.datetimes(datetime(2001, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
facts = st.dictionaries(
    words,
    st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | words,
    max_size=4,
)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    of = stage(draw(st.integers(0, 3)))
    status = draw(st.sampled_from(Status))
    return Measurement(
        of.key,
        status,
        tuple(draw(samples_of)) if status in (Status.OK, Status.QUARANTINED) else (),
        unroll=draw(st.integers(1, 1000)),
        rounds=draw(st.integers(0, 100)),
        reason="" if status is Status.OK else "why " + draw(words),
        worker=draw(words),
        attempt=draw(st.integers(1, 9)),
        measured_at=draw(moments),
        conditions=draw(facts),
    )


@settings(max_examples=12, deadline=None)
@given(items=st.lists(measurements(), max_size=12))
def test_whatever_is_recorded_comes_back_through_a_file(items: list[Measurement]) -> None:
    import tempfile

    by_key = {stage(n).key: stage(n) for n in range(4)}
    with (
        tempfile.TemporaryDirectory() as folder,
        LatencyDatabase("sqlite://") as first,
        LatencyDatabase("sqlite://") as second,
        LatencyDatabase("sqlite://") as third,
    ):
        first.record([(by_key[m.stage_key], m) for m in items], CPU, ENVIRONMENT)
        path = Path(folder) / "all.jsonl"
        count = first.export(path)
        report = second.import_file(path)
        assert (report.stored, report.rejected, report.complete) == (count, 0, True)
        third.merge(second)
        rows = [
            [
                (r.stage_key, r.status, r.reason, r.median, r.mad, r.p10, r.measured_at, r.worker)
                for r in d.query(order_by="measured_at")
            ]
            for d in (first, second, third)
        ]
        assert sorted(rows[0], key=repr) == sorted(rows[1], key=repr) == sorted(rows[2], key=repr)
        found = [d.lookup(by_key, CPU, ENVIRONMENT) for d in (first, third)]
        assert found[0].keys() == found[1].keys()


@given(samples=samples_of)
def test_stored_statistics_are_those_of_the_measurement(samples: list[float]) -> None:
    measurement = Measurement(stage(1).key, Status.OK, tuple(samples), measured_at=NOON)
    columns = encode(measurement, place_of(CPU, ENVIRONMENT))
    wanted = (measurement.median, measurement.mad, measurement.minimum, measurement.p90, len(samples))
    assert (columns.median, columns.mad, columns.min, columns.p90, columns.n) == wanted
    assert json.loads(columns.samples) == samples
