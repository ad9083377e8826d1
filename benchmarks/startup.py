"""How long `import iosfarm` and `iosfarm --help` take, against `python -c pass` in the same run.

    python benchmarks/startup.py [--rounds 15]

The three take turns, so that a busy moment of the machine meets all of them. The first round warms the disk's
cache and does not count. Wanted: under 0.5 s warm.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import iosfarm": [sys.executable, "-c", "import iosfarm"],
    "iosfarm --help": [sys.executable, "-m", "iosfarm", "--help"],
}


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of every run of every command; the warming round is left out."""
    samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if number > 0:
                samples[name].append(time.perf_counter() - start)
    return samples


def main() -> None:
    """Print medians as a table, or everything as JSON."""
    parser = argparse.ArgumentParser(description="Time the start of iosfarm.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    samples = measure(options.rounds)
    if options.json:
        print(json.dumps({"unit": "s", "samples": samples}, indent=2))
        return
    base = statistics.median(samples["python -c pass"])
    for name, values in samples.items():
        median = statistics.median(values)
        print(f"{name:16} {median * 1e3:6.0f} ms   {(median - base) * 1e3:+6.0f} ms   max {max(values) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
