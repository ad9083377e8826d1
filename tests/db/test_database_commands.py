"""`iosfarm db` as a user types it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from database_examples import CPU, ENVIRONMENT, SIM, bad, conv, ok, stage
from typer.testing import CliRunner

from iosfarm.cli.db import app
from iosfarm.cli.runs import app as runs_app
from iosfarm.db import DatabaseError, LatencyDatabase, RunSummary
from iosfarm.db.connection import schema
from iosfarm.ir.errors import IosfarmError, UsageError


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "latency.db")
    wide = stage(2, (conv(64, 48, (1, 7)),), strategy="merge", dtype="float16", batch=32)
    with LatencyDatabase(path) as database:
        database.record([(stage(1), ok(stage(1))), (wide, bad(wide, minutes=1))], CPU, ENVIRONMENT)
        database.record([(stage(1), ok(stage(1), 2e-3))], SIM, ENVIRONMENT)
    return path


def run(*arguments: str) -> tuple[str, str]:
    """stdout and stderr. An error is raised as the command raises it: the main program makes one line of it."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, IosfarmError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


COMMANDS = ["query", "stats", "migrate", "coverage", "compare", "verify", "export", "import", "merge", "prune"]
COMMANDS += [f"quarantine {name}" for name in ("list", "set", "lift")]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str) -> None:
    out, _ = run(*name.split(), "--help")
    assert f"Example: iosfarm db {name} " in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], 3),
        (["--op", "conv2d"], 3),
        (["--op", "pool"], 0),
        (["--kernel", "1x7"], 1),
        (["--kernel", "3"], 2),
        (["--in-channels", "64", "--out-channels", "48", "--stride", "1"], 1),
        (["--device", "example cpu"], 2),
        (["--simulated"], 1),
        (["--real"], 2),
        (["--dtype", "float16"], 1),
        (["--batch", "32"], 1),
        (["--strategy", "merge"], 1),
        (["--status", "failed"], 1),
        (["--layout", "nhwc"], 0),
        (["--model", "nasnet"], 0),
        (["--limit", "2"], 2),
    ],
)
def test_query_as_json(path: str, arguments: list[str], found: int) -> None:
    out, _ = run("query", "--db", path, "--json", *arguments)
    document = json.loads(out)
    assert document["database"] == path
    assert len(document["measurements"]) == found


def test_query_sorted(path: str) -> None:
    def medians(*arguments: str) -> list[float | None]:
        rows = json.loads(run("query", "--db", path, "--json", *arguments)[0])["measurements"]
        return [row["median"] for row in rows]

    assert medians("--sort", "median") == [2e-3, 1.5e-3, None]
    assert medians("--sort", "median", "--ascending") == [1.5e-3, 2e-3, None]
    with pytest.raises(UsageError, match="cannot order by 'speed'"):
        medians("--sort", "speed")


def test_query_as_a_table(path: str) -> None:
    out, err = run("query", "--db", path)
    assert "conv2d 3x3 64→96" in out
    assert "Tesla V100 (simulated)" in out
    assert "failed: it broke" in out
    assert "median ms" in out
    assert " 1.5 " in out
    assert err == ""
    out, err = run("query", "--db", path, "--limit", "1")
    assert "--limit shows more" in err
    out, err = run("query", "--db", path, "--op", "pool")
    assert out == ""
    assert "no measurement meets these conditions" in err


@pytest.mark.parametrize("arguments", [["--kernel", "3x3x3"], ["--kernel", "big"], ["--status", "good"]])
def test_query_with_wrong_values(path: str, arguments: list[str]) -> None:
    with pytest.raises(UsageError, match=arguments[1]):
        run("query", "--db", path, *arguments)


def test_stats(path: str) -> None:
    document = json.loads(run("stats", "--db", path, "--json")[0])
    assert document["measurements"] == 3
    assert document["by_status"] == {"failed": 1, "ok": 2}
    assert [(d["model"], d["simulated"]) for d in document["devices"]] == [("Example CPU", False), ("Tesla V100", True)]
    assert document["devices"][0]["last"] == "2024-05-01T12:01:00+00:00"
    out, _ = run("stats", "--db", path)
    assert "measurements ok" in out
    assert "Tesla V100 (simulated)" in out


@pytest.mark.parametrize("command", ["stats", "query"])
def test_reading_does_not_create(tmp_path: Path, command: str) -> None:
    with pytest.raises(DatabaseError, match="there is no latency database here"):
        run(command, "--db", str(tmp_path / "latency.db"))
    assert os.listdir(tmp_path) == []


def test_migrate_creates(tmp_path: Path) -> None:
    path = str(tmp_path / "latency.db")
    assert json.loads(run("migrate", "--db", path + "2", "--json")[0])["before"] == ""
    assert run("migrate", "--db", path)[0] == f"{path}: created with schema {schema.HEAD}\n"
    assert run("migrate", "--db", path)[0] == f"{path}: schema {schema.HEAD}, up to date\n"
    assert json.loads(run("migrate", "--db", path, "--json")[0]) == {
        "database": path,
        "before": schema.HEAD,
        "after": schema.HEAD,
    }


def test_url_from_the_environment(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOSFARM_DB", path)
    assert json.loads(run("stats", "--json")[0])["database"] == path


def test_app_is_a_group_of_commands() -> None:
    assert isinstance(app, typer.Typer)
    groups = [("", app), *((f"{g.name} ", g.typer_instance) for g in app.registered_groups if g.typer_instance)]
    assert {
        prefix + (c.name or (c.callback.__name__ if c.callback else ""))
        for prefix, group in groups
        for c in group.registered_commands
    } == set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--channels", "64..256"], 3),
        (["--channels", "97.."], 0),
        (["--in-channels", "..64", "--out-channels", "90..100"], 2),
        (["--height", "28", "--width", "28..28"], 3),
        (["--shape", "1x64x28x28"], 2),
        (["--batch", "2..64"], 1),
        (["--units", "1"], 3),
        (["--groups", "2.."], 0),
        (["--driver", "1.*"], 3),
        (["--library", "precision=float32", "--library", "runtime=cpu*"], 3),
        (["--library", "torch=2"], 0),
        (["--stage", "0"], 0),
        (["--since", "2024-05-01T12:00:30"], 1),
        (["--until", "2024-05-01T12:00:30+00:00"], 2),
        (["--since", "1h"], 0),
        (["--until", "1d"], 3),
    ],
)
def test_query_by_ranges_versions_and_age(path: str, arguments: list[str], found: int) -> None:
    document = json.loads(run("query", "--db", path, "--json", *arguments)[0])
    assert len(document["measurements"]) == found


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--channels", "many"], "--channels many: not a number or a range; write 64, 64..256"),
        (["--channels", "256..64"], "--channels 256..64: upside down; write 64..256"),
        (["--channels", ".."], "not a number or a range"),
        (["--channels", "-3"], "not a number or a range"),
        (["--batch", "1...2"], "not a number or a range"),
        (["--shape", "64x28x28"], "--shape 64x28x28: not NxCxHxW; write 1x64x56x56"),
        (["--kernel", "3x3x3"], "--kernel 3x3x3: not HxW; write 3 or 1x7"),
        (["--since", "soon"], "--since soon: neither an age nor a date; write an age such as 90s"),
        (["--since", "9999999999d"], "neither an age nor a date"),
        (["--library", "torch"], "--library torch: not a name and a version"),
        (["--stage", "xyz"], "no stage key: 'xyz'"),
        (["--format", "xml"], "no format 'xml'; choose one of table, csv, json, parquet"),
        (["--format", "csv", "--json"], "--json and --format csv"),
        (["--out", "x.doc"], "x.doc: no format 'doc'"),
        (["--sql", "SELECT 1", "--op", "conv2d"], "--sql together with conditions"),
        (["--sql", "DELETE FROM stage"], "it may only read"),
        (["--out", "/nowhere/x.csv"], "cannot write: No such file"),
    ],
)
def test_query_that_does_not_parse(path: str, arguments: list[str], what: str) -> None:
    with pytest.raises(IosfarmError, match=re.escape(what)):
        run("query", "--db", path, *arguments)


def test_query_as_csv(path: str, tmp_path: Path) -> None:
    out, _ = run("query", "--db", path, "--format", "csv", "--sort", "median", "--ascending")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["median"] for row in rows] == ["0.0015", "0.002", ""]
    assert json.loads(rows[0]["operators"])[0]["kind"] == "conv2d"
    told = run("query", "--db", path, "--sort", "median", "--ascending", "--out", str(tmp_path / "rows.csv"))[1]
    assert told == f"wrote 3 rows to {tmp_path / 'rows.csv'}\n"
    assert (tmp_path / "rows.csv").read_text() == out


def test_csv_cells_are_no_formulas(tmp_path: Path) -> None:
    url = str(tmp_path / "latency.db")
    with LatencyDatabase(url) as database:
        item = replace(bad(stage(1)), reason="=HYPERLINK(1)", worker="@x")
        database.record([(stage(1), item)], CPU, ENVIRONMENT)
    (row,) = csv.DictReader(io.StringIO(run("query", "--db", url, "--format", "csv")[0]))
    assert (row["reason"], row["worker"]) == ("'=HYPERLINK(1)", "'@x")


def test_query_as_parquet_arrow_and_pandas(path: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("pandas")
    run("query", "--db", path, "--out", str(tmp_path / "rows.parquet"))
    table = parquet.read_table(tmp_path / "rows.parquet")
    with LatencyDatabase(path, readonly=True) as database:
        rows = database.query()
        assert table.equals(database.query_arrow())
        frame = database.query_pandas(status="ok")
        assert len(database.query_pandas(op="nothing")) == 0
    assert table["median"].to_pylist() == [row.median for row in rows]
    assert table["measured_at"].to_pylist() == [row.measured_at for row in rows]
    assert sorted(frame["median"]) == [1.5e-3, 2e-3]
    assert str(frame["measured_at"].dtype).startswith("datetime64[us, UTC")


def test_own_sql(path: str) -> None:
    out, _ = run("query", "--db", path, "--sql", "SELECT status, count(*) AS n FROM latency GROUP BY status", "--json")
    document = json.loads(out)
    assert (document["columns"], document["rows"]) == (["status", "n"], [["failed", 1], ["ok", 2]])
    out, err = run("query", "--db", path, "--sql", "SELECT 1 AS one UNION ALL SELECT 2", "--limit", "1")
    assert out.split() == ["one", "─" * 3, "1"]
    assert "--limit shows more" in err
    assert run("query", "--db", path, "--sql", "SELECT 9e999 AS x", "--format", "csv")[0] == "x\ninf\n"


def test_export_import_and_merge(path: str, tmp_path: Path) -> None:
    file, copy, third = (str(tmp_path / name) for name in ("all.jsonl", "copy.db", "third.db"))
    assert run("export", file, "--db", path)[0] == f"wrote 3 measurements to {file}\n"
    assert json.loads(run("export", file, "--db", path, "--json")[0])["measurements"] == 3
    assert run("import", file, "--db", copy)[0] == f"{file}: 3 new measurements; 0 were known\n"
    report = json.loads(run("merge", copy, path, "--db", third, "--json")[0])
    assert [(r["stored"], r["known"]) for r in report["imports"]] == [(3, 0), (0, 3)]
    with pytest.raises(UsageError, match="cannot be merged into itself"):
        run("merge", third, "--db", third)
    with pytest.raises(IosfarmError, match="cannot write: No such file"):
        run("export", str(tmp_path / "no" / "file.jsonl"), "--db", path)


def test_an_export_may_be_packed(path: str, tmp_path: Path) -> None:
    plain, packed, torn = tmp_path / "all.jsonl", tmp_path / "all.jsonl.gz", tmp_path / "torn.jsonl.gz"
    run("export", str(plain), "--db", path)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    torn.write_bytes(packed.read_bytes()[:-20])
    told = [run("import", str(file), "--db", str(tmp_path / f"{file.name}.db"))[0] for file in (plain, packed)]
    assert told[1].replace(packed.name, plain.name) == told[0]
    with pytest.raises(UsageError, match=r"torn\.jsonl\.gz: cannot read: it is damaged"):
        run("import", str(torn), "--db", str(tmp_path / "third.db"))


def test_import_names_what_it_leaves_out(path: str, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    run("export", str(file), "--db", path)
    lines = file.read_text().splitlines()
    lines[-2] = lines[-2].replace('"attempt":2', '"attempt":-2').replace('"attempt":1', '"attempt":-2')
    file.write_text("\n".join(lines[:-1]))
    result = CliRunner().invoke(app, ["import", str(file), "--db", str(tmp_path / "copy.db")])
    assert result.exit_code == 1
    assert "2 new measurements; 0 were known" in result.stdout
    assert f"{file}:{len(lines) - 1}: left out: attempt: Input should be" in result.stderr
    assert "1 row was left out" in result.stderr
    assert "the file ends too early" in result.stderr


def test_compare(path: str) -> None:
    out, _ = run("compare", "cpu", "sim:v100", "--db", path)
    assert "latency on Tesla V100 (simulated) over Example CPU" in out
    assert json.loads(run("compare", "cpu", "sim:v100", "--db", path, "--json")[0])["all"]["stages"] == 1
    with pytest.raises(DatabaseError, match="no device 'tpu'"):
        run("compare", "cpu", "tpu", "--db", path)


def test_prune_asks(path: str, tmp_path: Path) -> None:
    assert run("prune", "--status", "failed", "--db", path, "--dry-run")[0].endswith(
        "1 measurements would be deleted\n"
    )
    with pytest.raises(UsageError, match="nobody is there to be asked; add --yes"):
        run("prune", "--status", "failed", "--db", path)
    with pytest.raises(UsageError, match="prune needs a condition"):
        run("prune", "--db", path, "--yes")
    assert json.loads(run("prune", "--status", "failed", "--db", path, "--yes", "--json")[0])["measurements"] == 1
    assert json.loads(run("stats", "--db", path, "--json")[0])["by_status"] == {"ok": 2}
    for command in (["prune", "--status", "ok", "--yes"], ["verify"]):
        with pytest.raises(DatabaseError, match="there is no latency database here"):
            run(*command, "--db", str(tmp_path / "none.db"))


def test_overlay_by_option_and_by_variable(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = str(tmp_path / "own.db")
    LatencyDatabase(own).close()
    assert len(json.loads(run("query", "--db", own, "--db-overlay", path, "--json")[0])["measurements"]) == 3
    monkeypatch.setenv("IOSFARM_DB_OVERLAY", path)
    assert len(json.loads(run("query", "--db", own, "--json")[0])["measurements"]) == 3
    assert len(json.loads(run("query", "--db", path, "--json")[0])["measurements"]) == 3  # not twice
    with pytest.raises(DatabaseError, match="there is no latency database here"):
        run("query", "--db", own, "--db-overlay", str(tmp_path / "none.db"))
    with pytest.raises(UsageError, match="an empty --db-overlay"):
        run("query", "--db", own, "--db-overlay", "")


def runs_of(*arguments: str) -> str:
    result = CliRunner().invoke(runs_app, arguments)
    if isinstance(result.exception, IosfarmError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_runs(path: str) -> None:
    assert runs_of("list", "--db", path) == ""
    with LatencyDatabase(path) as database:
        run_id = database.begin_run(["nasnet", "vgg", "resnet"], ["cpu"], settings={"gap": 0.05}, host="box")
        search = database.start_search("nasnet", {}, run_id=run_id)
        database.finish_search(search, "finished", {"measured": 4, "checked": 3, "found": 5})
        database.finish_run(run_id, "interrupted", RunSummary(9, 4, 5, {"worker died": 2}, 0.975, 0.031), note="Ctrl-C")
        database.begin_run([], [])
    listed = runs_of("list", "--db", path)
    for text in ("nasnet, vgg and 1 more", "interrupted", "97.5%", "3.1%", "box", "running"):
        assert text in listed
    assert len(json.loads(runs_of("list", "--db", path, "--json", "--outcome", "interrupted"))["runs"]) == 1
    shown = runs_of("show", str(run_id), "--db", path)
    for text in ("failed: worker died", "Ctrl-C", "nasnet", "gap", "finished"):
        assert text in shown
    assert [line.split()[-1] for line in shown.splitlines() if "measured again" in line] == ["3"]
    document = json.loads(runs_of("show", str(run_id), "--db", path, "--json"))
    assert document["run"]["summary"]["failed"] == {"worker died": 2}
    assert document["searches"][0]["counts"] == {"measured": 4, "checked": 3, "found": 5}
    with pytest.raises(DatabaseError, match="there is no run 99; `iosfarm runs list`"):
        runs_of("show", "99", "--db", path)
    with pytest.raises(UsageError, match="no outcome 'good'"):
        runs_of("list", "--db", path, "--outcome", "good")


def test_a_run_that_died_is_doubted(path: str) -> None:
    with LatencyDatabase(path) as database:
        database.begin_run(["x"], ["cpu"])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE run SET updated = updated - 600")
    connection.commit()
    connection.close()
    assert "running? (silent for 10 min)" in runs_of("list", "--db", path)


def test_quarantine_is_set_listed_and_lifted(path: str) -> None:
    assert run("quarantine", "list", "--db", path) == ("", "every measurement is believed: nothing is quarantined\n")
    arguments = ("Example CPU", "--reason", "its fan was broken", "--since", "2000-01-01", "--db", path)
    assert run("quarantine", "set", *arguments)[0].endswith("1 measurements are not believed any more\n")
    assert "its fan was broken" in run("quarantine", "list", "--db", path)[0]
    assert run("query", "--status", "ok", "--db", path, "--json", "--device", "cpu")[0].count("stage_key") == 0
    (listed,) = json.loads(run("quarantine", "list", "--db", path, "--json")[0])["quarantined"]
    assert (listed["model"], listed["measurements"]) == ("Example CPU", 1)
    lifted = json.loads(run("quarantine", "lift", "cpu", "--db", path, "--json")[0])
    assert lifted["measurements"] == 1
    assert json.loads(run("quarantine", "list", "--db", path, "--json")[0])["quarantined"] == []
    wrong = {"empty --reason": [" "], "NAME=VALUE": ["x", "--instance", "n"]}
    for what, options in wrong.items():
        with pytest.raises(UsageError, match=what):
            run("quarantine", "set", "cpu", "--reason", *options, "--db", path)
    with pytest.raises(DatabaseError, match="no latency database here"):
        run("quarantine", "lift", "cpu", "--db", f"{path}.other")


def test_prune_gives_room_back_where_it_is_asked_to(path: str) -> None:
    out, err = run("prune", "--status", "failed", "--yes", "--db", path)
    assert "--shrink gives it back" in err
    out, err = run("prune", "--status", "ok", "--yes", "--db", path, "--shrink")
    assert "MiB were given back to the disk" in out
    assert "--shrink" not in err
