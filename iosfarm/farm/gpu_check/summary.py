"""The figures that the check is for, from the rows of its sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from iosfarm.farm.gpu_check.rows import Row

SECTIONS = Mapping[str, Sequence[Row]]


def summary(sections: SECTIONS) -> dict[str, object]:
    """Only what was measured: a figure that a missing section would give is missing too."""
    result: dict[str, object] = {}
    errors = [r for r in sections.get("numerics", ()) if "within" in r]
    if errors:
        result["numerics_within_limits"] = all(row["within"] for row in errors)
        beyond = {f"{r['kind']} {r['dtype']} {r['provider']}" for r in errors if not r["within"]}
        result["numerics_beyond_limits"] = sorted(beyond)
    drift = list(_repeated(sections))
    if drift:
        result["start_to_end_worst"] = max(abs(ratio - 1) for ratio in drift)
    pairs = [r["ratio"] for r in sections.get("steady-start", ()) if "ratio" in r]
    if pairs:
        result["same_stage_twice"] = pairs[0]
    networks: dict[str, list[Row]] = {}
    for name, rows in sections.items():
        if name.startswith(("search:", "torch:")):
            networks.setdefault(name.partition(":")[2], []).extend(rows)
    found = {model: _network(rows) for model, rows in networks.items()}
    result["networks"] = {model: row for model, row in found.items() if row}
    return result


def _repeated(sections: SECTIONS) -> Iterator[float]:
    start = {
        r["key"]: r["median"] for r in sections.get("steady-start", ()) if r.get("median") is not None and "key" in r
    }
    for row in sections.get("steady-end", ()):
        before, after = start.get(row.get("key", "")), row.get("median")
        if isinstance(before, float) and isinstance(after, float):
            yield after / before


def _network(rows: Sequence[Row]) -> dict[str, object]:
    """Best schedules in seconds, and what they win."""
    schedules = {(str(r["search"]), str(r["schedule"])): r for r in rows if "schedule" in r}
    medians = {key: float(r["median"]) for key, r in schedules.items() if isinstance(r["median"], float)}
    if not medians:
        return {}
    best = min(medians, key=lambda key: medians[key])
    sequential = min((m for (_, name), m in medians.items() if name == "sequential"), default=None)
    others = {str(r["baseline"]): float(r["median"]) for r in rows if "baseline" in r and "median" in r}
    torch = {name: m for name, m in others.items() if name.startswith("torch")}
    ratios = [r["sum_over_whole"] for r in schedules.values() if isinstance(r.get("sum_over_whole"), float)]
    result: dict[str, object] = {"best": " ".join(best), "best_seconds": medians[best]}
    if sequential:
        result |= {"sequential_graph_seconds": sequential, "over_sequential_graph": sequential / medians[best]}
    if torch:
        fastest = min(torch, key=lambda name: torch[name])
        result |= {"fastest_torch": fastest, "over_fastest_torch": torch[fastest] / medians[best]}
    if "sequential eager" in others:
        result["over_sequential_eager"] = others["sequential eager"] / medians[best]
    if ratios:
        result["sum_of_stages_over_whole"] = [min(ratios), max(ratios)]
    costs = [r["seconds_a_stage"] for r in rows if isinstance(r.get("seconds_a_stage"), float)]
    if costs:
        result["seconds_a_measured_stage"] = costs[0]
    return result
