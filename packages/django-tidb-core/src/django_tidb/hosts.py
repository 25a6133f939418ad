"""Support for several servers in ``HOST``, and the order of connection attempts."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .error_numbers import ErrorNumber

__all__ = [
    "CONNECT_TIMEOUT",
    "Host",
    "early_end",
    "in_order",
    "is_unreachable",
    "parse_hosts",
]

#: The driver's ``connect_timeout`` in seconds if there are several servers and
#: ``OPTIONS`` does not set it. Without a limit, mysqlclient waits for a host that does
#: not answer as long as the operating system does, often two minutes.
CONNECT_TIMEOUT = 5

#: The time in seconds for which a server that did not answer is tried last.
REST = 30.0

#: The largest fraction of ``CONN_MAX_AGE`` by which a connection is closed early.
#: Otherwise, connections that were opened together after a restart would also be closed
#: together.
JITTER = 0.2

#: The errors after which another server may accept the connection: this server is not
#: reachable, is shutting down, or has reached its maximum number of connections. A
#: wrong password or an invalid certificate is not among these errors.
_UNREACHABLE = frozenset(
    (
        ErrorNumber.TOO_MANY_CONNECTIONS,
        ErrorNumber.SERVER_SHUTDOWN,
        ErrorNumber.CANNOT_CONNECT_TO_SOCKET,
        ErrorNumber.CANNOT_CONNECT,
        ErrorNumber.UNKNOWN_HOST,
        ErrorNumber.SERVER_GONE,
        ErrorNumber.HANDSHAKE_FAILED,
        ErrorNumber.SERVER_LOST,
    )
)

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:,\[\]/]+))(?::(\d{1,5}))?")

# The time until which a server is tried last, on the clock of time.monotonic().
# All threads and connections of the process share this dictionary.
_resting: dict[Host, float] = {}


@dataclass(frozen=True)
class Host:
    """
    A server in ``HOST``: a host name or an address, and the port, or None for the
    ``PORT`` of the settings.
    """

    name: str
    port: int | None = None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters with which the driver connects to this server."""
        params: dict[str, Any] = {"host": self.name}
        if self.port is not None:
            params["port"] = self.port
        return params

    def rest(self) -> None:
        """Try this server after all others for the next 30 seconds."""
        _resting[self] = time.monotonic() + REST

    def answered(self) -> None:
        """Stop trying this server after all others."""
        _resting.pop(self, None)

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


def parse_hosts(value: str, setting: str) -> tuple[Host, ...]:
    """
    Return the servers in `value`, which separates them by commas, as in
    ``"tidb-0,tidb-1:4001,[::1]:4000"``. A value without a comma is one host or the
    path of a socket, as in Django's MySQL backend, and the result is empty.

    Raises ``ImproperlyConfigured`` if a server is not valid or occurs twice. `setting`
    is the name of the setting in the message of the error.
    """
    if "," not in value:
        return ()
    hosts: list[Host] = []
    for text in value.split(","):
        match = _HOST.fullmatch(text.strip())
        port = int(match[3]) if match and match[3] else None
        if match is None or (port is not None and not 0 < port < 1 << 16):
            raise ImproperlyConfigured(
                f"{setting} is {value!r}, and {text.strip()!r} is no server. Servers "
                "are separated by commas; each is a name or an address, with a port "
                "from 1 to 65535 after a colon or without one, and an IPv6 address in "
                "brackets: 'tidb-0,tidb-1:4001,[::1]:4000'."
            )
        host = Host(match[1] or match[2], port)
        if host in hosts:
            raise ImproperlyConfigured(
                f"{setting} is {value!r}: {host} is in it twice."
            )
        hosts.append(host)
    return tuple(hosts)


def in_order(hosts: tuple[Host, ...]) -> Iterator[Host]:
    """
    Yield the servers in random order, except that servers which did not answer within
    the last 30 seconds come last.
    """
    now = time.monotonic()
    shuffled = random.sample(hosts, len(hosts))
    return iter(sorted(shuffled, key=lambda host: max(_resting.get(host, now), now)))


def is_unreachable(error: Exception) -> bool:
    """Return whether another server may be tried after this error of connecting."""
    return bool(error.args) and error.args[0] in _UNREACHABLE


def early_end(max_age: float) -> float:
    """
    Return a random number of seconds by which a connection ends before `max_age`,
    its ``CONN_MAX_AGE``.
    """
    return random.uniform(0, JITTER * max_age)  # noqa: S311
