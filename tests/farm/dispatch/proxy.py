"""A TCP port in front of a server's Unix socket, whose connections can be cut as a network cuts them, or stall."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards 127.0.0.1:`port` to a Unix socket. After `cut_after` bytes from clients it resets all connections, and
    then refuses `refusals` more before it forwards again. stalls: instead of that it goes on to take what these
    connections send, and swallows it. A context manager.
    """

    def __init__(self, target: str, *, cut_after: int, refusals: int = 0, stalls: bool = False) -> None:
        self.cuts = 0
        self._stalls = stalls
        self._swallowing: set[socket.socket] = set()
        self.refused = 0
        self._target = target
        self._left = cut_after
        self._refusals = refusals
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.cuts and self.refused < self._refusals:
                self.refused += 1
                _reset(client)
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._forward, args=(source, sink, source is client), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source in self._swallowing:
                    continue
                if from_client and not self.cuts:
                    self._left -= len(data)
                    if self._left <= 0 and self._stalls:
                        self.stall()
                        continue
                    if self._left <= 0:
                        self.cut()
                        return
                sink.sendall(data)
        _end(source, sink)

    def stall(self) -> None:
        """Connections that there are stand, and carry nothing any more."""
        self.cuts += 1
        with self._lock:
            self._swallowing |= self._open

    def cut(self) -> None:
        """Reset every connection, in the middle of whatever it carries."""
        self.cuts += 1
        with self._lock:
            cut, self._open = self._open, set()
        for one in cut:
            _reset(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)


def _reset(one: socket.socket) -> None:
    """End it with RST, as a firewall or a host that has restarted does."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _end(one)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            one.close()
