"""The documents: links lead somewhere, commands and their options exist, and Python names what there is."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import iosfarm
from iosfarm.cli.main import app
from iosfarm.reproduce.page import render, stored

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/*.md", "examples/*.md", "db/recorded/*.md")
PAGES = sorted(page for pattern in PATTERNS for page in ROOT.glob(pattern))
NAMED = [page.relative_to(ROOT).as_posix() for page in PAGES]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ANCHOR = re.compile(r"^#+ (.*)$", re.MULTILINE)
PATH = re.compile(r"`((?:iosfarm|workers|kernels|db|tests|benchmarks|examples|docs|scripts)/[\w./*-]+)`")
COMMAND = re.compile(r"^ {4}(iosfarm [^\n]*)|`(iosfarm [^`\n]*)`", re.MULTILINE)

# typer has a click of its own, and shows this much of it.
USAGE_ERROR = typer.BadParameter.__mro__[1]


@pytest.mark.parametrize("page", PAGES, ids=NAMED)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            found = {_slug(heading) for heading in ANCHOR.findall(file.read_text(encoding="utf-8"))}
            assert anchor in found, f"{page.name}: {target}"
    for name in PATH.findall(text):
        assert any(ROOT.glob(name.rstrip("/"))), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=NAMED)
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for match in COMMAND.finditer(text):
        line = match.group(1) or match.group(2)
        if "…" not in line:
            _parse(line.rstrip("\\").replace("\\|", "|"))


def test_examples_of_help_are_commands() -> None:
    for command in _commands(typer.main.get_command(app)):
        text = f"{command.help or ''}\n{command.epilog or ''}"
        examples = [line.strip() for line in text.splitlines() if re.match(r"\s*(Example: )?iosfarm ", line)]
        assert examples, f"no example: {command.name}"
        for line in examples:
            _parse(line.removeprefix("Example: "))


@pytest.mark.parametrize("page", PAGES, ids=NAMED)
def test_python_names_what_there_is(page: Path) -> None:
    for language, block in FENCED.findall(page.read_text(encoding="utf-8")):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "iosfarm":
                assert hasattr(iosfarm, node.attr), f"{page.name}: iosfarm.{node.attr}"
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("iosfarm"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page.name}: {node.module}.{alias.name}"


def test_the_page_of_results_is_what_the_results_beside_it_give() -> None:
    page = ROOT / "docs/results.md"
    assert page.read_text(encoding="utf-8").rstrip() == render(stored(page), page).rstrip()


def _parse(line: str) -> None:
    """Read a command line as the command would, without running it: unknown options and words too many are errors."""
    words = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    path = "iosfarm"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        found = command.commands.get(words[0].rstrip(","))
        assert found is not None, f"no such command: {line}"
        command, path, words = found, f"{path} {words[0]}", words[1:]
    context = typer.Context(command, info_name=path)
    try:
        _, rest, _ = command.make_parser(context).parse_args(words)
    except USAGE_ERROR as error:
        raise AssertionError(f"{line}: {error.format_message()}") from None
    assert not rest or hasattr(command, "commands"), f"{line}: {rest}"


def _commands(command: Any) -> Iterator[Any]:
    yield command
    if hasattr(command, "commands"):
        for child in command.commands.values():
            yield from _commands(child)


def _slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
