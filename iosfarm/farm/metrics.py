"""Metrics of a search for Prometheus, through Ray: its agent on this machine serves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iosfarm.farm.events import Event
from iosfarm.farm.progress import Progress

COUNTERS = {
    "task_done": ("iosfarm_stages_measured", "stages", ("device",)),
    "failed": ("iosfarm_failures", "count", ("device", "kind")),
}
"""By event: the counter, the field it adds, and the fields that label it."""


class Metrics:
    """A sink for events, and `update` for progress. Ray has to be connected.

    iosfarm_stages_measured{device}, iosfarm_failures{device, kind}, iosfarm_device_busy{device} (share),
    iosfarm_stages_known{job}, iosfarm_stages{job}, iosfarm_gap{job}. Ray puts `ray_` before each name.
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge

        self._counters: Mapping[str, Any] = {
            event: Counter(name, description=f"{name.removeprefix('iosfarm_')} so far", tag_keys=labels)
            for event, (name, _, labels) in COUNTERS.items()
        }
        self._busy = Gauge("iosfarm_device_busy", description="share of the time", tag_keys=("device",))
        self._jobs = {
            "known": Gauge("iosfarm_stages_known", description="stages with a latency", tag_keys=("job",)),
            "stages": Gauge("iosfarm_stages", description="stages that there are", tag_keys=("job",)),
            "gap": Gauge("iosfarm_gap", description="how far from the optimum, relative", tag_keys=("job",)),
        }

    def __call__(self, event: Event) -> None:
        if event.name in COUNTERS:
            _, field, labels = COUNTERS[event.name]
            tags = {label: str(event.fields[label]) for label in labels}
            self._counters[event.name].inc(event.fields[field], tags=tags)

    def update(self, progress: Progress) -> None:
        """Set what is measured as it is."""
        for device in progress.devices:
            self._busy.set(device.busy, tags={"device": device.name})
        for job in progress.jobs:
            for name, gauge in self._jobs.items():
                value = getattr(job, name)
                if value is not None:
                    gauge.set(value, tags={"job": job.name})
