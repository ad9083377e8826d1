"""`iosfarm db` as a user types it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer
from database_examples import CPU, ENVIRONMENT, SIM, bad, conv, ok, stage
from typer.testing import CliRunner

from iosfarm.cli.db import app
from iosfarm.db import DatabaseError, LatencyDatabase, schema
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


@pytest.mark.parametrize("name", ["query", "stats", "migrate"])
def test_help_has_an_example(name: str) -> None:
    out, _ = run(name, "--help")
    assert f"Example: iosfarm db {name} --" in " ".join(out.split())


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
    assert {c.callback.__name__ for c in app.registered_commands if c.callback} >= {"query", "stats", "migrate"}
