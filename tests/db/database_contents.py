"""A database with something of everything, and all that is in one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from database_examples import CPU, ENVIRONMENT, NOON, bad, ok, stage

from iosfarm.db import LatencyDatabase, RunSummary, ScheduledStageRow
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Status
from iosfarm.ir.plan import Plan, PlanScope

GPU = Device("cuda", "Example GPU", {"sm": 132}, {"index": 0})
OTHER = Environment({"runtime": "cuda 1", "precision": "float32"}, {"driver": "535.104", "torch": "2.13.0"})

PLANS_OF = PlanScope(GPU.model, {"sms": 132, "provider": "cudnn", "cudnn": "9.28.0"})


def fill(database: LatencyDatabase) -> None:
    """A run with a search, measurements of two devices with every status, a schedule that rests on one, plans."""
    run = database.begin_run(["nasnet"], ["cpu"], settings={"gap": 0.01}, host="here")
    search = database.start_search("nasnet", {"gap": 0.01}, run_id=run)
    items = [(stage(n), ok(stage(n), minutes=n)) for n in range(6)]
    items += [(stage(n), bad(stage(n), status, minutes=20)) for n, status in enumerate(Status) if status != "ok"]
    numbers = database.record(items, CPU, ENVIRONMENT, search_id=search)
    database.record([(stage(1), ok(stage(1), 0.1, 0.2))], GPU, OTHER)
    database.quarantine(GPU, NOON, "it lies")
    database.record_plans(PLANS_OF, [Plan("conv", "all eng1", 1e-5), Plan("order", "0 2 1", 1e-4)], found_at=NOON)
    document = json.dumps({"stages": [{"measurement": numbers[3]}, {"measurement": None}], "other": 1})
    database.record_schedule(
        search_id=search,
        model="nasnet",
        graph_hash="abc",
        batch=1,
        dtype="float32",
        device=CPU,
        environment=ENVIRONMENT,
        predicted=2e-3,
        measured=None,
        lower_bound=1e-3,
        document=document,
        stages=[
            ScheduledStageRow(0, 0, stage(3).key, "merge", 1e-3, numbers[3]),
            ScheduledStageRow(1, 0, stage(4).key, "merge", None),
        ],
    )
    database.finish_search(search, "finished", {"measured": 6})
    database.finish_run(run, "finished", RunSummary(6, 6, 0, {"timeout": 1}, 0.5, 0.01), note="done")


def contents(database: LatencyDatabase) -> list[Any]:
    """All that is in a database, but for its own numbers of rows."""
    rows = [replace(row, id=0, search_id=None) for row in database.query(order_by="measured_at")]
    measured = sorted(map(repr, rows))
    schedules = []
    medians = {row.id: row.median for row in database.query()}
    for row in database.schedules():
        stages = [replace(s, measurement_id=None) for s in row.stages]
        rests_on = [medians.get(s.measurement_id or 0) for s in row.stages]
        written = [medians.get(s["measurement"] or 0) for s in json.loads(row.document)["stages"]]
        schedules.append((replace(row, id=0, search_id=None, document="", stages=()), stages, rests_on, written))
    searches = [replace(row, id=0, run_id=None) for row in database.searches()]
    runs = [replace(row, id=0, silent=0.0) for row in database.runs()]
    return [measured, schedules, searches, runs, database.plans(PLANS_OF)]
