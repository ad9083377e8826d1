"""The `iosfarm` command: one file per command group; every failure is one line and an exit code.

Exit codes: 0 success, 1 a failed run, 2 wrong usage, 130 interrupted, 143 ended by SIGTERM. Command modules are
imported here, at start; what is slow to import (torch, ray, SQLAlchemy, …) they import inside their functions.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from iosfarm.cli import compare, db, doctor, export, models, report, reproduce, runs, search, show
from iosfarm.cli import run as run_command
from iosfarm.ir.errors import IosfarmError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_LONGEST_MESSAGE = 600  # characters of an unexpected error's message; some libraries put whole logs there
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)  # of stdout: files have names

app = typer.Typer(
    name="iosfarm",
    help="Find, keep and run the fastest schedules of neural networks.",
    epilog="Example: iosfarm search --models zoo.yaml",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"iosfarm {version('iosfarm')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


app.command("search")(search.command)
app.command("show")(show.command)
app.command("report")(report.command)
app.command("run")(run_command.command)
app.command("export")(export.command)
app.command("compare")(compare.command)
app.add_typer(models.app, name="models")
app.add_typer(db.app, name="db")
app.add_typer(runs.app, name="runs")
app.add_typer(reproduce.app, name="reproduce")
app.command("doctor")(doctor.command)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line on `args` (default: the process's own); returns the exit code, raises nothing."""
    if sys.stdout is None:  # closed before the start, as in `iosfarm models list >&-`
        return _fail("cannot write the output: standard output is closed", 1)
    try:
        code = _invoke(sys.argv[1:] if args is None else args)
        sys.stdout.flush()
    except IosfarmError as error:
        return _fail(str(error), error.exit_code, error)
    except typer.TyperException as error:
        return _wrong_usage(error)
    except (KeyboardInterrupt, typer.Abort) as stop:
        # A second SIGTERM brings its own.
        return _fail("interrupted", getattr(stop, "exit_code", INTERRUPTED), prefix="")
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in _CANNOT_WRITE:
            _drop_stdout()
            return _fail(f"cannot write the output: {error.strerror or error}", 1, error)
        message = " ".join(str(error).split())[:_LONGEST_MESSAGE]
        line = f"internal error: {type(error).__name__}: {message} (set IOSFARM_DEBUG=1 for the traceback)"
        return _fail(line, 1, error, prefix="")
    return code


def main() -> NoReturn:
    """Entry point of the `iosfarm` script."""
    sys.exit(run())


def _invoke(args: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    try:
        # Not Typer's own `main`: it makes every KeyboardInterrupt an Exit, which then looks like the Exit of a
        # command that was interrupted and has said itself how far it came.
        with command.make_context("iosfarm", list(args)) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0


def _fail(line: str, code: int, error: BaseException | None = None, prefix: str = "error: ") -> int:
    if error is not None and os.environ.get("IOSFARM_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"{prefix}{line}", file=sys.stderr)
    return code


def _wrong_usage(error: typer.TyperException) -> int:
    message = error.format_message().strip()
    if "\n" in message:  # a command group without a command: Typer's message is its help
        print(message, file=sys.stderr)
        return error.exit_code
    context: typer.Context | None = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "iosfarm"
    return _fail(f"{message.rstrip('.')}; see '{path} --help'", error.exit_code)


def _reader_left() -> int:
    # As in `iosfarm models list | head`.
    _drop_stdout()
    return 1


def _drop_stdout() -> None:
    """Python flushes stdout once more at exit: give it somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
