from __future__ import annotations

import pytest
from django.db import connections, models
from django.test.utils import CaptureQueriesContext

from .models import Shelf

pytestmark = pytest.mark.django_db

connection = connections["default"]


@pytest.fixture
def other():
    """Return a connection whose server variables have not been read yet."""
    other = connection.copy()
    yield other
    other.close()


def test_all_are_read_in_one_statement(other):
    with CaptureQueriesContext(other) as queries:
        assert len(queries) == 0
        _ = other.sql_mode
        _ = other.features.ignores_table_name_case
        _ = other.features.supports_table_check_constraints
        _ = other.features.has_zoneinfo_database
        _ = other.data_type_check_constraints
    assert len(queries) == 1
    assert other.tidb_variables["has_zoneinfo_database"] in ("0", "1")
    assert "tidb_txn_mode" in other.tidb_variables
    assert "max_execution_time" not in other.tidb_variables


def set_time_zone(connection, value):
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = %s", [value])


def test_refresh(other):
    variables = other.tidb_variables
    set_time_zone(other, "+01:00")
    assert variables["time_zone"] == "+01:00"
    set_time_zone(other, "+02:00")
    assert variables["time_zone"] == "+01:00"
    variables.refresh()
    assert variables["time_zone"] == "+02:00"


def test_refresh_without_an_access_can_be_cancelled(other):
    variables = other.tidb_variables
    set_time_zone(other, "+01:00")
    assert variables["time_zone"] == "+01:00"
    set_time_zone(other, "+02:00")
    variables.refresh()
    with variables.without_refresh():
        assert variables["time_zone"] == "+01:00"
    variables.cancel_refresh()
    assert variables["time_zone"] == "+01:00"
    variables.refresh()
    with variables.without_refresh():
        pass
    assert variables["time_zone"] == "+02:00"


def test_first_access_reads_the_variables_in_any_case(other):
    other.tidb_variables.cancel_refresh()
    with other.tidb_variables.without_refresh():
        assert other.tidb_variables["sql_mode"]
    with CaptureQueriesContext(other) as queries:
        assert other.tidb_variables["sql_mode"]
    assert len(queries) == 0


def test_block_without_an_access_does_not_prevent_the_first_one(other):
    with other.tidb_variables.without_refresh():
        pass
    assert other.tidb_variables["sql_mode"]


def test_schema_editor_reads_the_variables_again(other):
    variables = other.tidb_variables
    set_time_zone(other, "+01:00")
    assert variables["time_zone"] == "+01:00"
    set_time_zone(other, "+02:00")
    with other.schema_editor(collect_sql=True, atomic=False):
        assert variables["time_zone"] == "+02:00"


def test_schema_editor_that_does_not_need_them_does_not_read_them(other):
    assert other.tidb_variables["sql_mode"]
    old = models.PositiveIntegerField(null=True, default=1)
    new = models.PositiveIntegerField(null=True, default=2)
    for field in (old, new):
        field.set_attributes_from_name("height")
        field.model = Shelf
    with CaptureQueriesContext(other) as queries:
        with other.schema_editor() as editor:
            editor.alter_field(Shelf, old, new)
        _ = other.features.supports_table_check_constraints
    assert len(queries) == 0


def test_checks_of_field_types_follow_the_variable(check_constraints, tidb):
    if not check_constraints:
        assert connection.data_type_check_constraints == {}
        return
    assert "PositiveIntegerField" in connection.data_type_check_constraints
    tidb.execute("SET GLOBAL tidb_enable_check_constraint = OFF")
    with connection.schema_editor(collect_sql=True, atomic=False):
        assert not connection.features.supports_table_check_constraints
        assert connection.data_type_check_constraints == {}
