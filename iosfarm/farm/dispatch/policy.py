"""How a farm deals with failures and time: one table of numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Seconds unless said otherwise.

    chunk: that a task should take; of a simulated device, that answers at once, simulated_chunk. most_stages: of a
    task: they are measured in turns, so that a slow moment hits all alike; of a simulated device
    most_simulated_stages. attempts: how often a stage that fails by itself is tried, and a schedule end to end.

    hang, hang_factor: a task that takes longer than `hang` and `hang_factor` times what was expected has hung.
    evaluation_hang: likewise, of schedules end to end.

    tolerance: how far a device's canaries may be off, relative; `cpu_tolerance` on processors, which other programs
    disturb. strikes: tasks in a row whose canary is off, after which a device is quarantined.

    lease: that a claim on a stage holds without a sign of life; `beat`: between two such signs. look: between two looks
    at what other drivers hold; look_idle: where no device here has anything else to do. absence: to wait for a device
    where all are gone. outage: to wait for the database; silence: for its answer to one question.
    """

    chunk: float = 3.0
    simulated_chunk: float = 1.0
    most_stages: int = 32
    most_simulated_stages: int = 48
    attempts: int = 3
    hang: float = 30.0
    hang_factor: float = 10.0
    evaluation_hang: float = 1800.0
    tolerance: float = 0.1
    cpu_tolerance: float = 0.5
    strikes: int = 3
    lease: float = 120.0
    beat: float = 20.0
    look: float = 1.0
    look_idle: float = 0.2
    absence: float = 60.0
    outage: float = 900.0
    silence: float = 60.0
