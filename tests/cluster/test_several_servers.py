"""Tests of the statements in docs/topics/several-servers.md."""

from __future__ import annotations

from contextlib import ExitStack, closing

import MySQLdb
import pytest

from tests import faults
from tests.tidbserver.test_launcher import wait_until


def connect(server):
    return closing(faults.connect(server.port))


class Session:
    """A connection to one server."""

    def __init__(self, connection):
        self.cursor = connection.cursor()

    def execute(self, *statements):
        """Execute statements; return the rows of the last statement."""
        for statement in statements:
            self.cursor.execute(statement)
        return self.cursor.fetchall()

    def value(self, statement):
        ((value, *_),) = self.execute(statement)
        return value


@pytest.fixture
def sessions(cluster):
    """A session on each of the two servers, in an empty database."""
    with ExitStack() as stack:
        one, two = (
            Session(stack.enter_context(connect(server))) for server in cluster.servers
        )
        one.execute("CREATE DATABASE several")
        for session in (one, two):
            session.execute("USE several")
        yield one, two
        one.execute("DROP DATABASE several")


def insert(session):
    session.execute("INSERT INTO t (v) VALUES (1)")
    return session.value("SELECT LAST_INSERT_ID()")


class TestIds:
    DEFINITION = "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v INT)"
    # The query for the id that a server draws next.
    KNOWN = (
        "SELECT AUTO_INCREMENT FROM information_schema.tables "
        "WHERE TABLE_SCHEMA = 'several' AND TABLE_NAME = 't'"
    )

    def test_order(self, sessions):
        one, two = sessions
        one.execute(self.DEFINITION)
        assert [insert(s) for s in (one, two, one, two)] == [1, 30001, 2, 30002]
        assert one.value(self.KNOWN) == 3
        assert two.value(self.KNOWN) == 30003
        # The first id that no server has reserved is the same on both servers.
        for session in (one, two):
            rows = session.execute("SHOW TABLE t NEXT_ROW_ID")
            assert max(row[3] for row in rows) == 60001

    def test_order_with_auto_id_cache(self, sessions):
        one, two = sessions
        one.execute(f"{self.DEFINITION} AUTO_ID_CACHE 1")
        assert [insert(s) for s in (one, two, one, two)] == [1, 2, 3, 4]

    def test_given_id_that_another_server_has_reserved(self, sessions):
        one, two = sessions
        one.execute(self.DEFINITION)
        assert [insert(s) for s in (one, two)] == [1, 30001]
        two.execute("INSERT INTO t (id) VALUES (2)")
        with pytest.raises(MySQLdb.IntegrityError, match=r"1062, .*entry '2'"):
            insert(one)
        one.execute("ALTER TABLE t AUTO_INCREMENT = 100000")
        assert min(insert(s) for s in (one, two)) == 100_000

    def test_given_id_with_auto_id_cache(self, sessions):
        one, two = sessions
        one.execute(f"{self.DEFINITION} AUTO_ID_CACHE 1")
        assert [insert(s) for s in (one, two)] == [1, 2]
        two.execute("INSERT INTO t (id) VALUES (5)")
        assert [insert(s) for s in (one, two)] == [6, 7]

    def test_auto_random(self, sessions):
        one, two = sessions
        one.execute(
            "CREATE TABLE t (id BIGINT AUTO_RANDOM(5) PRIMARY KEY, v INT)",
            "SET allow_auto_random_explicit_insert = 1",
        )
        # Below the sign and the 5 bits of the shard is the counter.
        last = 2**58 - 1
        assert [insert(s) & last for s in (one, two)] == [1, 30001]
        one.execute(f"INSERT INTO t (id) VALUES ({last})")
        with pytest.raises(MySQLdb.DatabaseError, match="8059"):
            insert(one)
        assert insert(two) & last == 30002

    def test_sequence(self, sessions):
        for options, values in {"": [1, 1001, 2], "NOCACHE": [1, 2, 3]}.items():
            one, two = sessions
            one.execute("DROP SEQUENCE IF EXISTS s", f"CREATE SEQUENCE s {options}")
            drawn = [s.value("SELECT NEXT VALUE FOR s") for s in (one, two, one)]
            assert drawn == values


class TestVariables:
    def test_global(self, cluster, sessions):
        one, two = sessions
        one.execute("SET GLOBAL max_execution_time = 54321")
        try:
            # The global value reaches the other server; open sessions keep their own
            # values.
            wait_until(lambda: two.value("SELECT @@global.max_execution_time") == 54321)
            assert two.value("SELECT @@max_execution_time") == 0
            with connect(cluster.servers[1]) as new:
                assert Session(new).value("SELECT @@max_execution_time") == 54321
        finally:
            one.execute("SET GLOBAL max_execution_time = 0")

    def test_instance(self, sessions):
        one, two = sessions
        scope = one.value(
            "SELECT VARIABLE_SCOPE FROM information_schema.variables_info "
            "WHERE VARIABLE_NAME = 'max_connections'"
        )
        assert scope == "INSTANCE"
        one.execute("SET GLOBAL max_connections = 77")
        try:
            assert one.value("SELECT @@global.max_connections") == 77
            assert two.value("SELECT @@global.max_connections") == 0
        finally:
            one.execute("SET GLOBAL max_connections = 0")


def test_locks_of_users(sessions):
    one, two = sessions
    assert one.value("SELECT GET_LOCK('several', 1)") == 1
    assert two.value("SELECT GET_LOCK('several', 1)") == 0
    one.execute("DO RELEASE_LOCK('several')")
    assert two.value("SELECT GET_LOCK('several', 1)") == 1


def test_process_list(sessions):
    one, two = sessions
    other = two.value("SELECT CONNECTION_ID()")
    statement = "SELECT ID FROM information_schema.{}processlist"
    assert (other,) not in one.execute(statement.format(""))
    assert (other,) in one.execute(statement.format("cluster_"))
    one.execute(f"KILL {other}")
    with pytest.raises(MySQLdb.OperationalError) as raised:
        wait_until(lambda: two.value("SELECT 0"))
    assert raised.value.args[0] in (2006, 2013)


def test_tables_about_a_server(sessions):
    one, two = sessions
    count = "SELECT COUNT(*) FROM information_schema.{}{} WHERE {}"
    digest = "DIGEST_TEXT LIKE '%`only_here`'"

    def known():
        # The server begins new summaries every half an hour.
        two.execute("SELECT 1 AS only_here")
        return one.value(count.format("cluster_", "statements_summary", digest))

    wait_until(known)
    assert one.value(count.format("", "statements_summary", digest)) == 0

    session = f"SESSION_ID = {two.value('SELECT CONNECTION_ID()')}"
    two.execute("CREATE TABLE t (id INT)", "BEGIN", "INSERT INTO t VALUES (1)")
    try:
        assert one.value(count.format("", "tidb_trx", session)) == 0
        assert one.value(count.format("cluster_", "tidb_trx", session)) == 1
    finally:
        two.execute("ROLLBACK")
    names = "TABLE_NAME IN ('CLUSTER_DEADLOCKS', 'CLUSTER_SLOW_QUERY')"
    assert one.value(count.format("", "tables", names)) == 2


def test_statistics_and_bindings_reach_the_other_server(sessions):
    one, two = sessions
    one.execute(
        "CREATE TABLE t (id INT)",
        "INSERT INTO t VALUES (1), (2), (3)",
        "ANALYZE TABLE t",
        "CREATE GLOBAL BINDING FOR SELECT * FROM t WHERE id = 1 "
        "USING SELECT * FROM t USE INDEX () WHERE id = 1",
    )
    try:
        statistics = "SHOW STATS_HISTOGRAMS WHERE Db_name = 'several'"
        wait_until(lambda: two.execute(statistics))
        binding = "SHOW GLOBAL BINDINGS WHERE Default_db = 'several'"
        wait_until(lambda: two.execute(binding))
    finally:
        one.execute("DROP GLOBAL BINDING FOR SELECT * FROM t WHERE id = 1")


def test_users(cluster, sessions):
    one, _ = sessions

    def logs_in(password):
        try:
            MySQLdb.connect(
                host="127.0.0.1",
                port=cluster.servers[1].port,
                user="several",
                password=password,
            ).close()
        except MySQLdb.OperationalError as error:
            assert error.args[0] == 1045  # access denied
            return False
        return True

    one.execute("CREATE USER several IDENTIFIED BY 'first'")
    try:
        wait_until(lambda: logs_in("first"))
        one.execute("ALTER USER several IDENTIFIED BY 'second'")
        wait_until(lambda: logs_in("second"))
        assert not logs_in("first")
    finally:
        one.execute("DROP USER several")


def test_owner_of_ddl(sessions, cluster):
    owner = {session.execute("ADMIN SHOW DDL")[0][2] for session in sessions}
    assert len(owner) == 1
    assert owner < {server.address for server in cluster.servers}


def test_server_is_killed(fresh_cluster):
    """The locks of a killed server are released, and another server runs the DDL."""
    servers = fresh_cluster().servers
    with connect(servers[0]) as any_connection:
        address = Session(any_connection).execute("ADMIN SHOW DDL")[0][2]
    (owner,) = (server for server in servers if server.address == address)
    (other,) = (server for server in servers if server.address != address)
    with connect(owner) as lost, connect(other) as connection:
        session = Session(connection)
        session.execute(
            "CREATE DATABASE several",
            "USE several",
            f"{TestIds.DEFINITION} AUTO_ID_CACHE 1",
        )
        assert insert(session) == 1
        Session(lost).execute("BEGIN", "UPDATE several.t SET v = 2")
        owner.kill()
        session.execute("SET innodb_lock_wait_timeout = 600", "UPDATE t SET v = 3")
        session.execute("ALTER TABLE t ADD INDEX (v)")
        assert session.execute("SELECT id FROM t FORCE INDEX (v) WHERE v = 3") == (
            (1,),
        )
        session.execute("ADMIN CHECK TABLE t")
        assert session.execute("ADMIN SHOW DDL")[0][2] == other.address
        assert insert(session) > 1
