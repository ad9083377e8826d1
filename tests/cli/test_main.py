"""The frame of the command line: what users see when something fails, and the exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from iosfarm.cli import main
from iosfarm.cli.output import print_json, print_table, stderr_console
from iosfarm.farm.interrupt import Stopped
from iosfarm.ir.errors import IosfarmError, UsageError

Planted = Callable[[Callable[[], None]], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Planted]:
    """Mounts a function as the command `planted`."""
    before = list(main.app.registered_commands)

    def mount(function: Callable[[], None]) -> None:
        main.app.command("planted")(function)

    yield mount
    main.app.registered_commands[:] = before


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (IosfarmError("no\nspace", where="disk", hint="free some"), 1, "error: disk: no space; free some"),
        (UsageError("unknown model vgg", hint="see iosfarm models list"), 2,
         "error: unknown model vgg; see iosfarm models list"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (typer.Abort(), 130, "interrupted"),
        (Stopped(143), 143, "interrupted"),
        (typer.BadParameter("no such device"), 2,
         "error: Invalid value: no such device; see 'iosfarm planted --help'"),
        (ZeroDivisionError("a\nb"), 1,
         "internal error: ZeroDivisionError: a b (set IOSFARM_DEBUG=1 for the traceback)"),
    ],
)  # fmt: skip
def test_failure_is_one_line(
    plant: Planted, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    plant(raising(error))
    assert main.run(["planted"]) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_debug_shows_the_traceback(
    plant: Planted, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOSFARM_DEBUG", "1")
    plant(raising(IosfarmError("no space")))
    assert main.run(["planted"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "error: no space"


def test_exit_code_of_a_command_is_kept(plant: Planted, capsys: pytest.CaptureFixture[str]) -> None:
    plant(raising(typer.Exit(1)))
    assert main.run(["planted"]) == 1
    plant(raising(typer.Exit(130)))  # a command that has told of the interruption itself
    assert main.run(["planted"]) == 130
    plant(raising(SystemExit(3)))
    assert main.run(["planted"]) == 3
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["serach"], "error: No such command 'serach'"),
        (["--serach"], "error: No such option: --serach"),
        (["doctor", "--serach"], "error: No such option: --serach"),
        (["doctor", "surplus"], "error: Got unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], args: list[str], line: str) -> None:
    assert main.run(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(line)
    assert err.endswith("--help'\n")


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: iosfarm [OPTIONS] COMMAND")
    assert "doctor" in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == "iosfarm 0.1.0\n"


def test_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iosfarm", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: iosfarm ")


def every_command() -> list[list[str]]:
    """The path of the app, of every group and of every command."""

    def walk(command: object, path: list[str]) -> Iterator[list[str]]:
        inner = getattr(command, "commands", {})
        yield path
        for name in inner:
            yield from walk(inner[name], [*path, name])

    return list(walk(typer.main.get_command(main.app), []))


@pytest.mark.parametrize("path", every_command(), ids=lambda path: " ".join(path) or "iosfarm")
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], path: list[str]) -> None:
    assert main.run([*path, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: {' '.join(['iosfarm', *path])} ")
    assert f"Example: {' '.join(['iosfarm', *path])}" in out


def test_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    code = """
import sys
from iosfarm.cli import main
main.app.command("planted")(lambda: [print("line") for _ in range(10**7)])
sys.exit(main.run(["planted"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_interrupt_signal_ends_a_command(tmp_path: Path) -> None:
    code = """
import sys, threading
from iosfarm.cli import main
def planted():
    print("started", flush=True)
    threading.Event().wait(60)
main.app.command("planted")(planted)
sys.exit(main.run(["planted"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert err == b"interrupted\n"
        assert process.returncode == 130


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"latency": 0.25, "name": "größer"})
    assert json.loads(capsys.readouterr().out) == {"latency": 0.25, "name": "größer"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_json(capsys: pytest.CaptureFixture[str], value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"latency": value})
    assert capsys.readouterr().out == ""


def test_table_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("stage", "ms"), [("[red]a[/red]", 1.23456), ("b", None), ("c", 12)], title="[b]stages")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    text = "\n".join(lines)
    assert "[b]stages" in text
    assert "[red]a[/red]   1.235" in text
    assert "b                  -" in text
    assert "c                 12" in text


WIDE = (
    ("name", "flops", "what", "todo"),
    [("a", 123_456_789_012, "x" * 60, ""), ("b", 1.5e4, "größer " * 4, "rest"), ("c", 1.5e-5, "\x1b[31m\n", None)],
)


def test_table_that_is_too_wide_is_blocks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(*WIDE, title="all")
    assert capsys.readouterr().out.splitlines() == [
        "all",
        *("a", "  flops: 123456789012", "  what: " + "x" * 60),
        *("b", "  flops: 15000", "  what: größer größer größer größer", "  todo: rest"),
        *("c", "  flops: 0.000015", "  what:  [31m", "  todo: -"),
    ]


def test_table_in_a_pipe_is_lines_without_surplus_spaces(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(*WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3
    assert lines[0].split() == ["name", "flops", "what", "todo"]
    assert all(line and line == line.rstrip() for line in lines)


@pytest.mark.parametrize("command", ["models list", "models list --json", "--help", "--version"])
@pytest.mark.parametrize(
    ("redirection", "why"), [(">&-", "standard output is closed"), (">/dev/full", "No space left on device")]
)
def test_output_that_cannot_be_written(command: str, redirection: str, why: str) -> None:
    line = f"exec {sys.executable} -m iosfarm {command} {redirection}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, f"error: cannot write the output: {why}\n")


def test_remarks_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    stderr_console().print("[3/10] measured")
    assert capsys.readouterr() == ("", "[3/10] measured\n")
