from __future__ import annotations

import numpy as np
import pytest
from django.core import checks
from django.core.exceptions import ValidationError
from django.db import connections, models, router
from django.forms import modelform_factory
from django.test.utils import isolate_apps

from django_tidb.version import TiDBVersion
from django_tidb_vector import VectorField

from .models import Item


@pytest.mark.works("vector")
@pytest.mark.django_db
@pytest.mark.parametrize("value", [[1, 2.5, -3], np.array([1, 2.5, -3])])
def test_create_and_read_back(value):
    pk = Item.objects.create(embedding=value, other=[7]).pk
    item = Item.objects.get(pk=pk)
    assert item.embedding.dtype == np.float32
    assert item.embedding.tolist() == [1, 2.5, -3]
    assert item.other.tolist() == [7]


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_null():
    item = Item.objects.create()
    item.refresh_from_db()
    assert item.embedding is None
    assert Item.objects.filter(embedding=None).exists()


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_bulk_create_and_values_list():
    Item.objects.bulk_create(Item(embedding=[n, 0, 0]) for n in range(5))
    values = Item.objects.order_by("pk").values_list("embedding", flat=True)
    assert [value.tolist() for value in values] == [[n, 0, 0] for n in range(5)]


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_bad_value_is_refused_before_any_sql(django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValueError) as error:
        Item.objects.create(embedding=[1, 2])
    assert str(error.value) == "vector.Item.embedding: expected 3 dimensions, not 2."


def test_full_clean():
    item = Item(embedding=[1, 2, 3])
    item.full_clean()
    assert item.embedding.dtype == np.float32
    item.embedding = [1, 2]
    with pytest.raises(ValidationError, match="expected 3 dimensions, not 2"):
        item.full_clean()


def test_model_form():
    form_class = modelform_factory(Item, fields=["embedding"])
    item = Item(embedding=np.array([1, 2.5, 3], dtype=np.float32))
    assert "[1.0,2.5,3.0]" in form_class(instance=item).as_p()
    assert not form_class({"embedding": "[1, 2.5, 3]"}, instance=item).has_changed()
    form = form_class({"embedding": "[1, 2.5, 4]"}, instance=item)
    assert form.has_changed()
    assert form.is_valid()
    assert form.cleaned_data["embedding"].tolist() == [1, 2.5, 4]
    assert form_class({"embedding": ""}).is_valid()
    assert form_class({"embedding": "[1, 2]"}).errors == {
        "embedding": ["Enter a valid vector: expected 3 dimensions, not 2."]
    }


@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("default", [[1, 2, 3], lambda: [1, 2, 3]])
@isolate_apps("tests.vector")
def test_add_field_with_a_default_to_rows(default):
    class Model(models.Model):
        class Meta:
            app_label = "vector"

    connection = connections["default"]
    with connection.schema_editor() as editor:
        editor.create_model(Model)
    try:
        Model.objects.create()
        field = VectorField(dimensions=3, default=default)
        field.contribute_to_class(Model, "embedding")
        with connection.schema_editor() as editor:
            editor.add_field(Model, field)
        assert Model.objects.get().embedding.tolist() == [1, 2, 3]
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Model)


def test_deconstruct():
    _, path, args, kwargs = VectorField(dimensions=3).deconstruct()
    assert (path, args, kwargs) == (
        "django_tidb_vector.VectorField",
        [],
        {"dimensions": 3},
    )
    assert VectorField().deconstruct()[3] == {}


@isolate_apps("tests.vector")
@pytest.mark.parametrize("dimensions", [0, 16384, "3", 1.5, True])
def test_check_dimensions(dimensions):
    class Model(models.Model):
        field = VectorField(dimensions=dimensions)

        class Meta:
            app_label = "vector"

    field = Model._meta.get_field("field")
    # Also where the backend asks for the type of the column.
    assert field.check(databases=["default"]) == [
        checks.Error(
            f"'dimensions' is {dimensions!r}; it must be None or an integer from 1 "
            "to 16383.",
            obj=field,
            id="tidb_vector.E001",
        )
    ]


def test_check_database_that_is_not_tidb(settings):
    settings.DATABASE_ROUTERS = []
    field = Item._meta.get_field("embedding")
    assert field.check(databases=["sqlite"]) == [
        checks.Error(
            "The database 'sqlite' is not a TiDB; only TiDB has vector columns.",
            hint=(
                "Keep the model away from that database with allow_migrate() of a "
                "database router."
            ),
            obj=field,
            id="tidb_vector.E002",
        )
    ]


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_check_server_without_vectors(monkeypatch):
    field = Item._meta.get_field("embedding")
    assert field.check(databases=["default"]) == []
    monkeypatch.setattr(
        connections["default"],
        "tidb_version",
        TiDBVersion.parse("5.7.25-TiDB-v7.5.0"),
    )
    monkeypatch.setattr(router, "routers", [])
    (error,) = field.check(databases=["default"])
    assert error.id == "tidb_vector.E003"
    assert error.msg == (
        "The database 'default' is TiDB 7.5.0; vector columns need TiDB 8.4 or later."
    )


def test_check_leaves_routed_databases_alone():
    assert Item._meta.get_field("embedding").check(databases=["sqlite"]) == []


def test_check_app(settings):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_tidb_vector"
    ]
    field = Item._meta.get_field("embedding")
    assert field.check() == [
        checks.Warning(
            "VectorField is used without its app.",
            hint="Add 'django_tidb_vector' to INSTALLED_APPS.",
            obj=field,
            id="tidb_vector.W001",
        )
    ]


def test_db_type():
    connection = connections["default"]
    assert VectorField(dimensions=3).db_type(connection) == "vector(3)"
    assert VectorField().db_type(connection) == "vector"
