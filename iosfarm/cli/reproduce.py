"""`iosfarm reproduce`: the tables of the IOS paper, counted again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Count the IOS paper's tables again, beside the paper's own figures.",
    epilog="Example: iosfarm reproduce table1",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def table1(
    randwire_graphs: Annotated[
        Path | None,
        typer.Option(
            "--randwire-graphs",
            metavar="DIR",
            help="Folder with the edge lists (*.txt, in name order) of RandWire's four graphs.",
            show_default="the zoo's own, which are not the paper's",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Size of the search space of each network's largest block, without pruning.

    units: n. width: d, the most units of which none waits for another. bound: C(n/d + 2, 2)^d. transitions: pairs of a
    state and the next, with the paper's endings. A row that does not match says so; the exit code is 0 all the same.

    Example: iosfarm reproduce table1
    """
    from dataclasses import asdict

    from iosfarm.cli.output import print_json, print_table
    from iosfarm.reproduce import paper, tables

    rows = tables.table1(randwire_graphs)
    if as_json:
        documents = [
            {"network": r.network, "ours": asdict(r.ours), "paper": asdict(r.paper), "match": r.match, "note": r.note}
            for r in rows
        ]
        print_json({"table": 1, "source": paper.SOURCE, "rows": documents})
        return
    columns = [column for name in ("n", "d", "bound", "transitions", "schedules") for column in (name, "paper")]
    print_table(
        ("network", *columns, "match"),
        [
            (
                row.network,
                *(row.ours.units, row.paper.units, row.ours.width, row.paper.width),
                *(f"{row.ours.bound:.1e}", f"{row.paper.bound:.1e}"),
                *(row.ours.transitions, row.paper.transitions),
                *(f"{row.ours.schedules:.3e}", f"{row.paper.schedules:.3e}"),
                "yes" if row.match else "no",
            )
            for row in rows
        ],
        title="Table 1: search space of the largest block, ours and the paper's",
    )
    for row in rows:
        if row.note:
            print(f"{row.network}: {row.note}")


@app.command()
def table2(as_json: Json = False) -> None:
    """Units of each network: what the scheduler places, the paper's operators.

    Example: iosfarm reproduce table2
    """
    from iosfarm.cli.output import print_json, print_table
    from iosfarm.reproduce import paper, tables

    rows = tables.table2()
    if as_json:
        documents = [{"network": r.network, "ours": r.ours, "paper": r.paper, "match": r.match} for r in rows]
        print_json({"table": 2, "source": paper.SOURCE, "rows": documents})
        return
    print_table(
        ("network", "units", "paper", "match"),
        [(row.network, row.ours, row.paper, "yes" if row.match else "no") for row in rows],
        title="Table 2: units of each network, ours and the paper's",
    )
