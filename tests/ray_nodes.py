"""Ray clusters of several nodes, each with processes of its own on this machine, that can be killed and stalled."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from processes import MARK, eventually, marked

RAY = str(Path(sys.executable).with_name("ray"))

IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""Settings of a head that takes a node which does not answer for dead after some ten seconds, not after a minute."""


@dataclass(frozen=True)
class RayNode:
    """`ray start --block` and all that it has started; its processes carry `mark`."""

    name: str
    mark: str
    process: subprocess.Popen[bytes]

    def signal(self, number: signal.Signals) -> None:
        """To all of its processes: SIGKILL is a machine that loses power, SIGSTOP one that does not answer."""
        for process in marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def end(self) -> None:
        """As `ray stop` there does, and if that does not help, without asking."""
        self.signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGTERM)
        if not eventually(lambda: not marked(self.mark), 20):
            self.signal(signal.SIGKILL)
        self.process.wait(20)


class RayCluster:
    """A head node, and those that join it. A context manager: nothing of it is left behind.

    environment: of all processes. token: that Ray asks for. inside: a command before each, that says where they run, by
    the node's name.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        cores: int = 1,
        addresses: Mapping[str, str] | None = None,
        inside: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """cores: that the head gives out. addresses: of nodes by name; 127.0.0.1 without. The head is named `head`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.token = uuid.uuid4().hex
        settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        settings["RAY_memory_monitor_refresh_ms"] = "0"  # what else this machine does is not to end our workers
        # As in a fresh shell: a search on a Ray of its own, in this process, has told Ray that there are no clusters.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = {**inherited, **settings, **(environment or {})}
        self.nodes: dict[str, RayNode] = {}
        self._addresses = addresses or {}
        self._inside = inside or {}
        self.address = f"{self._addresses.get('head', '127.0.0.1')}:{port}"
        self._begin("head", cores, "--head", f"--port={port}", "--include-dashboard=false")

    def join(self, name: str, cores: int = 1) -> RayNode:
        """Another node."""
        return self._begin(name, cores, f"--address={self.address}")

    def _begin(self, name: str, cores: int, *arguments: str) -> RayNode:
        mark = uuid.uuid4().hex
        command = [*self._inside.get(name, ()), RAY, "start", *arguments, "--block", f"--num-cpus={cores}"]
        command += [f"--node-name={name}", "--object-store-memory=80000000"]
        if name in self._addresses or not self._inside:
            command.append(f"--node-ip-address={self._addresses.get(name, '127.0.0.1')}")
        process = subprocess.Popen(
            command, env={**self.environment, MARK: mark}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.nodes[name] = node = RayNode(name, mark, process)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if b"--block" in line:  # it says that it goes on for ever, once all has started
                return node
        raise AssertionError(b"".join(said).decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in reversed(self.nodes.values()):
            node.end()
