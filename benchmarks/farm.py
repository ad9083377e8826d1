"""The farm: what a driver can keep up with, what many devices are kept busy with, and what is lost when things fail.

    python benchmarks/farm.py [SECTION ...] [--postgres URL] [--repeats 20] [--json]

Sections, all by default:
  throughput  stages that one driver dispatches and records a second, to devices that answer at once; no Ray.
  busy        64 simulated devices that take 20 ms a stage: share of the time that they are busy, until the last stage
              has been handed out, and over all.
  workers     kill -9 of a random worker every 2 s while 8 simulated devices measure NasNet.
  driver      kill -9 of the driver at `repeats` random moments, each followed by the same search again.
  drivers     4 drivers with 4 devices each on one PostgreSQL, against one driver with 4.
  outage      PostgreSQL stopped for 30 s in the middle of a search.

The last two start a PostgreSQL server of their own. All searches are exhaustive: what is to be measured is known, so
what was measured twice or lost can be counted. Devices are simulated, and `pace` makes them take real time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import farm_crashes
import farm_rates

SECTIONS: Mapping[str, Callable[[Path, argparse.Namespace], dict[str, object]]] = {
    "throughput": farm_rates.throughput,
    "busy": farm_rates.busy,
    "workers": farm_crashes.workers,
    "driver": farm_crashes.driver,
    "drivers": farm_crashes.drivers,
    "outage": farm_crashes.outage,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--repeats", type=int, default=20, help="kills of the driver")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    found: dict[str, object] = {}
    for name in arguments.sections or SECTIONS:
        print(f"{name} …", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="iosfarm-") as folder:
            found[name] = rows = SECTIONS[name](Path(folder), arguments)
        if not arguments.json:
            print(name)
            for what, value in rows.items():
                print(f"  {what:<42} {value:.4g}" if isinstance(value, float) else f"  {what:<42} {value}")
    if arguments.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
