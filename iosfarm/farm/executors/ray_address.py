"""What can be told of a cluster before it is joined. Ray itself would try for minutes, and write to the terminal."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from iosfarm.ir.errors import IosfarmError, UsageError

ANSWER_TIMEOUT = 5.0
"""Seconds that a cluster may take to answer."""

HINT = "give host:port as `ray start --head` prints it, or auto"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How an HTTP/2 client begins (RFC 9113, 3.4): Ray speaks gRPC."""
_SETTINGS = 4  # the type of the frame that every HTTP/2 server begins with


class RayError(IosfarmError):
    """Ray did not start, or a worker's process died."""


def check_address(address: str) -> None:
    """Whether a cluster answers at `host:port` or `ray://host:port`, or runs on this machine (`auto`).

    Raises:
        UsageError: not an address. RayError: nobody, or something else, answers there.
    """
    if address == "auto":
        return
    if address.startswith("ray://") and importlib.util.find_spec("grpc") is None:
        raise RayError("a ray:// address needs Ray's client", where=address, hint="pip install 'ray[client]'")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError("not the address of a Ray cluster", where=address or "--ray-address", hint=HINT)
    answer = b""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_TIMEOUT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
    except TimeoutError:
        pass
    except OSError as error:
        raise RayError(f"no Ray cluster answers: {error.strerror or error}", where=address, hint=HINT) from error
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise RayError("what answers there is no Ray cluster", where=address, hint=HINT)


def check_cluster(address: str) -> None:
    """Whether the cluster at a checked address takes our token, and has our versions.

    Where the cluster asks for a token, and there is one (`~/.ray/auth_token`, `$RAY_AUTH_TOKEN`), it is used, as Ray
    does for `auto` by itself: whoever names an address trusts it with all that Ray does.

    Raises:
        RayError: no, and why.
    """
    if address.startswith("ray://"):
        _use_token()  # whether it is asked for cannot be told before
        return
    try:
        from ray._private.services import canonicalize_bootstrap_address

        client = importlib.import_module("ray._raylet").GcsClient
    except (ImportError, AttributeError):
        return  # another version of Ray: it will say itself what is wrong
    try:
        found = canonicalize_bootstrap_address(address)
    except (OSError, ValueError):
        return
    if found is None:
        return
    if address == "auto":
        check_address(found)
    with _silence():
        told = _metadata(client, found, address)
    ours = {"ray_version": _ray_version(), "python_version": platform.python_version()}
    differing = [
        (name.partition("_")[0].capitalize(), told[name], own)
        for name, own in ours.items()
        if name in told and _significant(name, told[name]) != _significant(name, own)
    ]
    if differing:
        what = " and ".join(f"{name} {theirs} (here {own})" for name, theirs, own in differing)
        raise RayError(f"the cluster runs {what}", where=address, hint="install the same versions everywhere")


def _metadata(client: Any, found: str, address: str) -> Mapping[str, str]:
    from ray.exceptions import AuthenticationError
    from ray.exceptions import RayError as RaysError

    for attempt in range(2):
        try:
            content = client(address=found).internal_kv_get(b"CLUSTER_METADATA", b"cluster")
            document = json.loads(content) if content else {}
            return {name: str(value) for name, value in document.items()} if isinstance(document, dict) else {}
        except AuthenticationError as error:
            if attempt or not _use_token():
                raise RayError(
                    "the cluster asks for a token, and this machine has none or another one",
                    where=address,
                    hint="copy ~/.ray/auth_token from its head node, or set RAY_AUTH_TOKEN",
                ) from error
        except (RaysError, ValueError):
            break
    return {}


def _use_token() -> bool:
    """Whether there is a token that was not used."""
    try:
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    except ImportError:
        return False
    return "RAY_AUTH_MODE" not in os.environ and bool(maybe_enable_token_auth_if_token_available(False))


def _ray_version() -> str:
    import ray

    return str(ray.__version__)


def _significant(name: str, version: str) -> str:
    """Ray does not mind another patch release of Python."""
    return ".".join(version.split(".")[:2]) if name == "python_version" else version


@contextmanager
def _silence() -> Iterator[None]:
    """Ray's core writes what goes wrong to stderr, past Python; we tell of it in one line."""
    sys.stderr.flush()
    kept = os.dup(2)
    with closing(os.fdopen(os.open(os.devnull, os.O_WRONLY), "wb", buffering=0)) as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
