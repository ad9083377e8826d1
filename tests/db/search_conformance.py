"""Searches, their schedules, and runs. A subclass overrides the fixture `url`."""

from __future__ import annotations

import pytest
from database_examples import CPU, ENVIRONMENT, SIM, add_schedule, ok, stage
from database_fixtures import DatabaseFixtures

from iosfarm.db import DatabaseError, LatencyDatabase, RunSummary, ScheduledStageRow, SearchState


class SearchConformance(DatabaseFixtures):
    def test_search(self, database: LatencyDatabase) -> None:
        number = database.start_search("squeezenet", {"gap": 0.01, "strategies": ["merge"]})
        (running,) = database.searches()
        assert (running.id, running.state, running.finished_at) == (number, SearchState.RUNNING, None)
        database.finish_search(number, "interrupted", {"measured": 7})
        (ended,) = database.searches(model="squeezenet")
        assert (ended.state, ended.counts) == (SearchState.INTERRUPTED, {"measured": 7})
        assert ended.settings == {"gap": 0.01, "strategies": ["merge"]}
        assert ended.finished_at is not None
        assert ended.finished_at >= ended.started_at
        assert database.searches(model="other") == []

    def test_search_ends_once(self, database: LatencyDatabase) -> None:
        number = database.start_search("squeezenet", {})
        for state in ("running", "asleep"):
            with pytest.raises(ValueError, match=state):
                database.finish_search(number, state, {})
        database.finish_search(number, SearchState.FINISHED, {"measured": 1})
        with pytest.raises(DatabaseError, match=f"search {number} is finished already"):
            database.finish_search(number, SearchState.FAILED, {})
        with pytest.raises(DatabaseError, match="there is no search 99"):
            database.finish_search(99, SearchState.FAILED, {})
        assert database.searches()[0].counts == {"measured": 1}

    def test_schedules(self, database: LatencyDatabase) -> None:
        s = stage(1)
        (number,) = database.record([(s, ok(s))], CPU, ENVIRONMENT)
        stages = [
            ScheduledStageRow(0, 0, s.key, "concurrent", 1e-3, number),
            ScheduledStageRow(1, 2, stage(2).key, "merge", 1e-3),
        ]
        first = add_schedule(database, "nasnet", stages, document='{"a":1}')
        second = add_schedule(database, "nasnet", [], device=SIM, batch=32, measured=3e-3)
        newest, oldest = database.schedules()
        assert (newest.id, newest.simulated, newest.device, newest.measured) == (second, True, "Tesla V100", 3e-3)
        assert (oldest.id, oldest.simulated, oldest.device_kind) == (first, False, "cpu")
        assert (oldest.document, oldest.stages, oldest.measured) == ('{"a":1}', tuple(stages), None)
        assert [x.id for x in database.schedules(simulated=False)] == [first]
        assert [x.id for x in database.schedules(device="sim:v100")] == [second]
        assert [x.id for x in database.schedules(model="nasnet", batch=32, dtype="float32")] == [second]
        assert [x.id for x in database.schedules(limit=1)] == [second]
        assert database.schedules(graph_hash="other") == []

    def test_schedule_with_an_unknown_measurement_is_not_stored(self, database: LatencyDatabase) -> None:
        with pytest.raises(DatabaseError):
            add_schedule(database, "nasnet", [ScheduledStageRow(0, 0, stage(1).key, "merge", 1.0, 99)])
        assert database.schedules() == []

    def test_run(self, database: LatencyDatabase) -> None:
        number = database.begin_run(["nasnet b1"], ["cpu", "sim:v100"], settings={"gap": 0.01})
        row = database.run(number)
        assert (row.outcome, row.models, row.devices) == (SearchState.RUNNING, ("nasnet b1",), ("cpu", "sim:v100"))
        assert (row.finished_at, row.summary, row.settings) == (None, RunSummary(), {"gap": 0.01})
        assert row.host
        assert row.version
        assert 0 <= row.silent < 60
        search = database.start_search("nasnet", {}, run_id=number)
        database.start_search("other", {})
        assert [(s.id, s.run_id) for s in database.searches(run_id=number)] == [(search, number)]
        summary = RunSummary(90, 40, 50, {"timeout": 2, "worker died": 1}, 0.97, 0.01)
        database.update_run(number, RunSummary(90, 20, 50))
        database.finish_run(number, "interrupted", summary, note="Ctrl-C \0")
        (row,) = database.runs()
        assert (row.outcome, row.summary, row.note) == (SearchState.INTERRUPTED, summary, "Ctrl-C \ufffd")
        assert row.finished_at is not None
        assert row.finished_at >= row.started_at
        for change in (
            lambda: database.update_run(number, summary),
            lambda: database.finish_run(number, "finished", summary),
        ):
            with pytest.raises(DatabaseError, match=f"run {number} is interrupted already"):
                change()
        with pytest.raises(DatabaseError, match="there is no run 99"):
            database.update_run(99, summary)
        with pytest.raises(DatabaseError, match="there is no run 99; `iosfarm runs list`"):
            database.run(99)
        for gap in (float("nan"), -1.0):
            with pytest.raises(ValueError, match="a run's gap"):
                database.update_run(number, RunSummary(gap=gap))
        second = database.begin_run([], [])
        assert [r.id for r in database.runs(limit=1)] == [second]
        assert [r.id for r in database.runs(outcome="running")] == [second]
