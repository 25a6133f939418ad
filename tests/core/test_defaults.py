from __future__ import annotations

import json
import re
import uuid
import warnings
from decimal import Decimal

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError, connection, models
from django.db.models.functions import (
    Coalesce,
    Concat,
    ExtractYear,
    Lower,
    Now,
    Pi,
    Random,
)
from django.db.models.lookups import GreaterThan
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables import isolated_models, model_class, tables_of_models

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        django.VERSION < (5, 0),
        reason="db_default is new in Django 5.0: "
        "https://docs.djangoproject.com/en/5.0/releases/5.0/",
    ),
]


class UUID(models.Func):
    template = "UUID()"
    output_field = models.CharField()


@pytest.fixture
def table(make_model, create_tables):
    """Return a function that makes a model with one field, and creates its table."""

    def make(field):
        model = make_model("Thing", value=field)
        create_tables(model)
        return model

    return make


def inserted(model):
    """Insert a row without values; return the value that the server filled in."""
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {model._meta.db_table} () VALUES ()")
        cursor.execute(f"SELECT value FROM {model._meta.db_table}")
        return cursor.fetchone()[0]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (lambda: models.IntegerField(db_default=5), 5),
        (lambda: models.CharField(max_length=9, db_default="50% 'x'"), "50% 'x'"),
        (lambda: models.FloatField(db_default=Pi()), 3.141592653589793),
        (
            lambda: models.FloatField(db_default=Coalesce(4.5, Pi()) + Pi()),
            7.641592653589793,
        ),
        (
            lambda: models.CharField(max_length=9, db_default=Lower(models.Value("X"))),
            "x",
        ),
        (
            lambda: models.CharField(
                max_length=9, db_default=Concat(models.Value("%"), models.Value("'"))
            ),
            "%'",
        ),
        (
            lambda: models.IntegerField(
                db_default=models.Case(
                    models.When(GreaterThan(models.Value(2), models.Value(1)), then=3),
                    default=4,
                )
            ),
            3,
        ),
        (
            lambda: models.DecimalField(
                max_digits=5, decimal_places=2, db_default=Decimal("1.25")
            ),
            Decimal("1.25"),
        ),
        (lambda: models.IntegerField(db_default=models.Value(1) + 1), 2),
    ],
)
def test_constants_become_defaults_of_columns(table, field, expected):
    assert inserted(table(field())) == expected


@pytest.mark.works("default-uuid")
@pytest.mark.parametrize(
    ("field", "holds"),
    [
        (lambda: models.DateTimeField(db_default=Now()), lambda v: v.year >= 2026),
        (lambda: models.FloatField(db_default=Random()), lambda v: 0 <= v < 1),
        (lambda: models.CharField(max_length=36, db_default=UUID()), uuid.UUID),
    ],
)
def test_functions_become_defaults_of_columns(table, field, holds):
    assert holds(inserted(table(field())))


@pytest.mark.long
@pytest.mark.works("default-uuid")
def test_added_column_has_a_function_as_its_default(table):
    # TiDB refuses ADD COLUMN with this default, because each row has to get its own
    # value.
    model = table(models.IntegerField(null=True))
    field = models.CharField(max_length=36, db_default=UUID())
    field.set_attributes_from_name("token")
    field.model = model
    with connection.schema_editor() as editor:
        editor.add_field(model, field)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {model._meta.db_table} () VALUES (), ()")
        cursor.execute(f"SELECT COUNT(DISTINCT token) FROM {model._meta.db_table}")
        assert cursor.fetchone() == (2,)


leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
).filter(lambda value: isinstance(value, str | list | dict))


@pytest.mark.works("default-json-functions")
@settings(max_examples=25)
@given(value=values)
def test_json_comes_back_from_a_default(value):
    field = models.JSONField(db_default=models.Value(value, models.JSONField()))
    # Hypothesis runs the fixtures once for all examples, so each example makes its own
    # table.
    with isolated_models(), tables_of_models() as create_tables:
        model = model_class("Document", module=__name__, value=field)
        create_tables(model)
        assert json.loads(inserted(model)) == value


UNSUPPORTED = [
    lambda: models.IntegerField(db_default=ExtractYear(Now())),
    lambda: models.TextField(db_default="x"),
    lambda: models.BinaryField(db_default=b"x"),
    lambda: models.JSONField(db_default=models.Value(5, models.JSONField())),
    lambda: models.CharField(max_length=40, db_default=Lower(UUID())),
]


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_unsupported_default_is_refused_before_any_sql(
    table, field, django_assert_num_queries
):
    with (
        django_assert_num_queries(0),
        pytest.raises(NotSupportedError, match=r"core\.Thing\.value.*DEFAULT"),
    ):
        table(field())


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_check_names_the_field_of_an_unsupported_default(make_model, field):
    Thing = make_model("Thing", value=field())
    (error,) = Thing.check(databases={"default"})
    assert error.id == "tidb.E001"
    assert error.obj is Thing._meta.get_field("value")


def test_unsupported_default_is_left_out_with_the_option(table, monkeypatch):
    monkeypatch.setitem(
        connection.settings_dict["OPTIONS"], "drop_unsupported_db_defaults", True
    )
    with pytest.warns(UserWarning, match="Dropped"):
        model = table(models.TextField(db_default="x"))
    (warning,) = model.check(databases={"default"})
    assert warning.id == "tidb.W003"
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW CREATE TABLE {model._meta.db_table}")
        assert "DEFAULT 'x'" not in cursor.fetchone()[1]


@pytest.mark.works("default-uuid")
def test_default_is_set_and_dropped_by_alter_field(table):
    model = table(models.DateTimeField(null=True))
    old = model._meta.get_field("value")
    for default in (Now(), models.NOT_PROVIDED):
        new = models.DateTimeField(null=True, db_default=default)
        new.set_attributes_from_name("value")
        new.model = model
        with connection.schema_editor() as editor:
            editor.alter_field(model, old, new)
        with connection.cursor() as cursor:
            cursor.execute(f"SHOW CREATE TABLE {model._meta.db_table}")
            has = "CURRENT_TIMESTAMP" in cursor.fetchone()[1]
        assert has is (default is not models.NOT_PROVIDED)
        old = new


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rebuild_tables", "shop"),
        ("rebuild_tables", 1),
        ("rebuild_tables", [1]),
        ("drop_unsupported_db_defaults", "yes"),
        ("skip_fulltext_indexes", 1),
    ],
)
def test_options_are_checked(monkeypatch, name, value):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], name, value)
    with pytest.raises(ImproperlyConfigured, match=f"{name}.*{re.escape(repr(value))}"):
        connection.get_connection_params()


def test_supported_default_warns_of_nothing(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = table(models.IntegerField(db_default=1))
        assert model.check(databases={"default"}) == []
