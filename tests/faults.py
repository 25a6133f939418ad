"""
Provoke faults in tests. A proxy cuts connections at a chosen byte, and deadlock() makes
a chosen connection the victim of a deadlock.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from django_tidb.driver import ensure_driver
from django_tidb.error_numbers import ErrorNumber

ensure_driver()

import MySQLdb  # noqa: E402

#: The longest time to wait, in seconds, for a state that another process brings about.
PATIENCE = 300.0

_COM_QUERY = 3
_HEADER = 4


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value of `condition`, which is called repeatedly."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited in vain for {what}")
        time.sleep(0.01)
    return value


# -- Connections that are cut


class Direction(Enum):
    """The direction in which the proxy counts bytes before it cuts the connection."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class How(Enum):
    """The way in which the proxy interrupts the connection at the chosen byte."""

    CLOSE = "close"
    #: The client receives a TCP reset.
    RESET = "reset"
    #: The proxy keeps the connection open and only calls `then`.
    PASS = "pass"


@dataclass
class Cut:
    """
    A fault at the nth statement that begins with `statement`.

    With the direction TO_SERVER, the proxy forwards the first `byte` bytes of the
    statement's packet. With TO_CLIENT, the proxy forwards the whole statement and the
    first `byte` bytes of the server's answer. Then the proxy calls `then` in its own
    thread and interrupts the connection as `how` says.
    """

    statement: str
    direction: Direction = Direction.TO_SERVER
    byte: int = 0
    nth: int = 1
    how: How = How.CLOSE
    then: Callable[[], object] | None = None
    #: The event is set when the fault has happened.
    done: threading.Event = field(default_factory=threading.Event)
    _seen: int = 0

    def matches(self, statement: str) -> bool:
        """Count `statement` if it matches; return whether the fault belongs to it."""
        if self.done.is_set() or not statement.upper().startswith(
            self.statement.upper()
        ):
            return False
        self._seen += 1
        return self._seen == self.nth


@dataclass
class Exchange:
    """
    A statement that went through the proxy, with the sizes of its packet and its
    answer.
    """

    statement: str
    sent: int
    answered: int = 0


class Proxy:
    """
    A TCP proxy in front of a server that counts bytes and cuts connections.

    The proxy understands the packets of MySQL's protocol only as far as the cuts need
    it, and supports neither TLS nor compression. Use the proxy as a context manager:
    the exit raises the first error of its threads.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1"
        self.port: int = self._listener.getsockname()[1]
        #: The statements that went through the proxy, with the oldest first.
        self.exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        self._cuts: list[Cut] = []
        self._connecting: Cut | None = None
        self._pairs: list[_Pair] = []
        self._errors: list[BaseException] = []
        self._closing = False
        self._refusing = False
        self._thread = threading.Thread(target=self._accept, name="proxy")

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._closing = True
        # accept() does not return when another thread closes the socket, so connect
        # once.
        with contextlib.suppress(OSError):
            socket.create_connection((self.host, self.port)).close()
        self._thread.join()
        self._listener.close()
        for pair in self._pairs:
            pair.stop()
        if self._errors:
            raise self._errors[0]

    def cut(self, statement: str, *args: Any, **kwargs: Any) -> Cut:
        """Arm a cut with the arguments of :class:`Cut`, and return it."""
        cut = Cut(statement, *args, **kwargs)
        with self._lock:
            self._cuts.append(cut)
        return cut

    def cut_connecting(self, direction: Direction, byte: int, how: How) -> Cut:
        """
        Arm a cut of the next new connection after `byte` bytes in `direction`, and
        return it.
        """
        cut = Cut("", direction, byte, how=how)
        with self._lock:
            self._connecting = cut
        return cut

    def passed(self) -> dict[Direction, int]:
        """Return the number of bytes in each direction of the newest connection."""
        return self._pairs[-1].passed

    def take_connecting(self) -> Cut | None:
        with self._lock:
            cut, self._connecting = self._connecting, None
        return cut

    def cut_all(self) -> None:
        """Close all connections now."""
        for pair in self._pairs:
            pair.stop()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Close new connections at once during the block."""
        self._refusing = True
        try:
            yield
        finally:
            self._refusing = False

    def statements(self) -> list[str]:
        """Return the statements that went through the proxy, with the oldest first."""
        return [exchange.statement for exchange in self.exchanges]

    def cut_for(self, statement: str) -> Cut | None:
        with self._lock:
            # Call matches() of every cut, because it also counts the statements.
            matching = [cut for cut in self._cuts if cut.matches(statement)]
        return matching[0] if matching else None

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                if self._closing:
                    client.close()
                    return
                if self._refusing:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self._server)
                except ConnectionRefusedError:
                    # The server is down, so its clients cannot connect either.
                    client.close()
                    continue
                pair = _Pair(self, client, server)
                self._pairs.append(pair)
                pair.start()
        except BaseException as error:
            self._errors.append(error)

    def failed(self, error: BaseException) -> None:
        self._errors.append(error)


class _Pair(threading.Thread):
    """
    The connection of a client and the connection to the server that belongs to it.
    """

    def __init__(
        self, proxy: Proxy, client: socket.socket, server: socket.socket
    ) -> None:
        super().__init__(name="proxied connection")
        self.proxy = proxy
        self.client = client
        self.server = server
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Another thread writes to this pair of sockets in order to end this thread.
        self._wake, self._woken = socket.socketpair()
        self._buffer = b""
        self._exchange: Exchange | None = None
        self.passed = dict.fromkeys(Direction, 0)
        self._connecting = proxy.take_connecting()
        # The pending cut of an answer, and the number of bytes to forward before the
        # cut.
        self._cut: Cut | None = None
        self._left = 0

    def stop(self) -> None:
        """Close both connections, and wait until the thread has ended."""
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        self.join()
        self._wake.close()

    def run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                for each in (self.client, self.server, self._woken):
                    selector.register(each, selectors.EVENT_READ)
                while self._forward([key.fileobj for key, _ in selector.select()]):
                    pass
        except BaseException as error:
            self.proxy.failed(error)
        finally:
            for each in (self.client, self.server, self._woken):
                each.close()

    def _forward(self, ready: list[Any]) -> bool:
        """
        Forward the data that has arrived. Return False when the connection is over.
        """
        if self._woken in ready:
            return False
        try:
            # Forward the answer to the last statement before the next statement.
            if self.server in ready:
                data = self.server.recv(1 << 16)
                return bool(data) and self._pass(Direction.TO_CLIENT, data)
            data = self.client.recv(1 << 16)
            return bool(data) and self._pass(Direction.TO_SERVER, data)
        except OSError:
            # The client or the server has closed its connection, so the thread closes
            # both.
            return False

    def _pass(self, direction: Direction, data: bytes) -> bool:
        cut = self._connecting
        if cut is not None and cut.direction is direction:
            left = cut.byte - self.passed[direction]
            if len(data) >= left:
                sink = self.server if direction is Direction.TO_SERVER else self.client
                sink.sendall(data[:left])
                return not self._reached(cut)
        self.passed[direction] += len(data)
        if direction is Direction.TO_SERVER:
            return self._to_server(data)
        return self._to_client(data)

    def _to_server(self, data: bytes) -> bool:
        self._buffer += data
        while len(self._buffer) >= _HEADER:
            length = int.from_bytes(self._buffer[:3], "little") + _HEADER
            if len(self._buffer) < length:
                break
            packet, self._buffer = self._buffer[:length], self._buffer[length:]
            if not self._packet(packet):
                return False
        return True

    def _packet(self, packet: bytes) -> bool:
        # Packets of the handshake are not statements; their sequence numbers differ
        # from 0.
        is_statement = packet[3] == 0 and packet[_HEADER : _HEADER + 1] == bytes(
            [_COM_QUERY]
        )
        if is_statement:
            statement = packet[_HEADER + 1 :].decode(errors="replace")
            self._exchange = Exchange(statement, len(packet))
            self.proxy.exchanges.append(self._exchange)
            cut = self.proxy.cut_for(statement)
            if cut is not None and cut.direction is Direction.TO_SERVER:
                self.server.sendall(packet[: cut.byte])
                if self._reached(cut):
                    return False
                packet = packet[cut.byte :]
            elif cut is not None:
                self._cut, self._left = cut, cut.byte
        self.server.sendall(packet)
        return True

    def _to_client(self, data: bytes) -> bool:
        if self._exchange is not None:
            self._exchange.answered += len(data)
        if (cut := self._cut) is not None:
            through = data[: self._left]
            self._left -= len(through)
            self.client.sendall(through)
            if self._left:
                return True
            self._cut = None
            if self._reached(cut):
                return False
            data = data[len(through) :]
        self.client.sendall(data)
        return True

    def _reached(self, cut: Cut) -> bool:
        """
        Call `then` and interrupt the connection; return whether it has been closed.
        """
        if cut.then is not None:
            cut.then()
        if cut.how is How.PASS:
            cut.done.set()
            return False
        if cut.how is How.RESET:
            self.client.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.client.close()
        self.server.close()
        cut.done.set()
        return True


# -- Deadlocks


def connect(port: int) -> Any:
    """Connect to a server of this machine with the driver, in autocommit mode."""
    return MySQLdb.connect(
        host="127.0.0.1",
        port=port,
        user="root",
        password="",
        charset="utf8mb4",
        autocommit=True,
    )


@contextmanager
def raw_connection(connection: Any) -> Iterator[Any]:
    """
    Open another connection of the driver with the settings of `connection`, in
    autocommit mode.
    """
    raw = connection.get_new_connection(connection.get_connection_params())
    try:
        yield raw
    finally:
        raw.close()


@contextmanager
def through_proxy(connection: Any) -> Iterator[Proxy]:
    """Let a connection of Django go through a proxy in this block; yield the proxy."""
    settings = connection.settings_dict
    before = settings["HOST"], settings["PORT"]
    with Proxy(before[0], int(before[1])) as proxy:
        connection.close()
        settings.update(HOST=proxy.host, PORT=str(proxy.port))
        try:
            yield proxy
        finally:
            connection.close()
            settings["HOST"], settings["PORT"] = before


def is_waiting_for_lock(cursor: Any, connection_id: int) -> bool:
    """
    Return whether the transaction of a connection waits for a lock.

    The table data_lock_waits would tell more, but is empty on the storage that is built
    into tidb-server.
    """
    cursor.execute(
        "SELECT COUNT(*) FROM information_schema.tidb_trx "
        "WHERE session_id = %s AND state = 'LockWaiting'",
        [connection_id],
    )
    return bool(cursor.fetchone()[0])


def deadlock(
    connection: Any,
    table: str,
    rows: Sequence[int],
    update: Callable[[int], object] | None = None,
) -> None:
    """
    Provoke the server's error 1213 in the open transaction of `connection`.

    `rows` are ids in `table` that no other transaction has locked. ``update(id)``
    raises the error. The function has to lock the row with this id; by default, it is
    an UPDATE of the column `id`.

    The server aborts the transaction whose lock request closes the cycle. A second
    transaction therefore first waits for a lock of `connection`. However, tidb_trx
    reports this wait slightly before the storage knows it, so now and then the server
    aborts the second transaction. The second transaction then tries again with the next
    of `rows`, until the server aborts the transaction of `connection`.
    """
    first, *others = rows

    def lock(row: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {table} SET id = id WHERE id = %s", [row])

    locked: queue.Queue[int | None] = queue.Queue()
    errors: list[BaseException] = []

    def run(cursor: Any) -> None:
        statement = f"UPDATE {table} SET id = id WHERE id = %s"
        try:
            for row in others:
                cursor.execute("BEGIN PESSIMISTIC")
                cursor.execute(statement, [row])
                locked.put(row)
                try:
                    cursor.execute(statement, [first])
                except connection.Database.OperationalError as error:
                    cursor.execute("ROLLBACK")
                    if error.args[0] != ErrorNumber.DEADLOCK:
                        raise
                else:
                    cursor.execute("ROLLBACK")
                    return
        except BaseException as error:
            errors.append(error)
        finally:
            locked.put(None)

    lock(first)
    with (
        raw_connection(connection) as other,
        raw_connection(connection) as observer,
        other.cursor() as theirs,
        observer.cursor() as observing,
    ):
        # Ask the server, because the drivers keep only 32 bits of the connection's id.
        theirs.execute("SELECT CONNECTION_ID()")
        (other_id,) = theirs.fetchone()
        thread = threading.Thread(target=run, args=[theirs], name="deadlock")
        thread.start()
        try:
            while (row := locked.get(timeout=PATIENCE)) is not None:
                wait_for(
                    lambda: is_waiting_for_lock(observing, other_id),
                    "the other transaction to wait for a lock",
                )
                (update or lock)(row)
        except BaseException as error:
            if error.args[:1] != (ErrorNumber.DEADLOCK,):
                observing.execute("KILL TIDB %s", [other_id])
            raise
        finally:
            thread.join()
    raise AssertionError(f"There was no deadlock: {errors}")
