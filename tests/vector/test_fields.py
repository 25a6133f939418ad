from __future__ import annotations

import copy
import io
import json
import pickle
from array import array

import django
import numpy as np
import pytest
from django.core import checks, serializers
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import (
    DataError,
    IntegrityError,
    NotSupportedError,
    connections,
    models,
    router,
)
from django.db.migrations.writer import MigrationWriter
from django.db.models import F, Q
from django.forms import modelform_factory
from django.test.utils import isolate_apps

from django_tidb.version import TiDBVersion
from django_tidb_vector import VectorField
from django_tidb_vector.plugin import plugin
from tests.core.models import check

from .models import Item

FORMATS = ["json", "jsonl", "python", "xml", "yaml"]


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


@isolate_apps("tests.vector")
@pytest.mark.django_db
def test_full_clean_with_constraints():
    class Model(models.Model):
        field = VectorField(dimensions=3)
        number = models.IntegerField()

        class Meta:
            app_label = "vector"
            constraints = [
                models.CheckConstraint(**{check: Q(number__gt=0)}, name="positive")
            ]

    vector = np.array([1, 2, 3], np.float32)
    model = Model(field=vector, number=1)
    model.full_clean()
    assert model.field is vector
    model.number = 0
    with pytest.raises(ValidationError, match="positive"):
        model.full_clean()
    assert model.field is vector


def test_default_is_not_shared():
    field = VectorField(default=[1, 2])
    field.get_default()[0] = 99
    assert field.get_default() == [1, 2]
    assert VectorField(default=(1, 2)).get_default() == (1, 2)
    assert VectorField().get_default() is None


def test_disabled_form_field():
    form_class = modelform_factory(Item, fields=["embedding"])
    item = Item(embedding=np.array([1, 2.5, 3], dtype=np.float32))
    form = form_class({"embedding": "[7, 8, 9]"}, instance=item)
    form.fields["embedding"].disabled = True
    assert form.is_valid()
    assert not form.has_changed()
    assert form.cleaned_data["embedding"].tolist() == [1, 2.5, 3]


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
def test_add_field_with_a_default_to_rows(create_tables, default):
    class Model(models.Model):
        class Meta:
            app_label = "vector"

    create_tables(Model)
    Model.objects.create()
    field = VectorField(dimensions=3, default=default)
    field.contribute_to_class(Model, "embedding")
    with connections["default"].schema_editor() as editor:
        editor.add_field(Model, field)
    assert Model.objects.get().embedding.tolist() == [1, 2, 3]


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
    # With `databases`, check() also asks the backend for the type of the column.
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
    assert list(plugin.check_database(connections["default"])) == []
    monkeypatch.setattr(
        connections["default"],
        "tidb_version",
        TiDBVersion.parse("5.7.25-TiDB-v7.5.0"),
    )
    monkeypatch.setattr(router, "routers", [])
    assert field.check(databases=["default"]) == []
    errors = plugin.check_database(connections["default"])
    (error,) = (error for error in errors if error.obj is field)
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


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_update_and_expressions():
    pk = Item.objects.create(embedding=[1, 2, 3]).pk
    rows = Item.objects.filter(pk=pk)
    rows.update(embedding=np.array([4, 5, 6]))
    assert rows.get().embedding.tolist() == [4, 5, 6]
    rows.update(other=F("embedding"))
    assert rows.get().other.tolist() == [4, 5, 6]
    item = rows.get()
    item.embedding = F("embedding") + F("other")
    item.save()
    assert rows.get().embedding.tolist() == [8, 10, 12]


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_bulk_update():
    items = [Item(pk=pk, embedding=[pk, 0, 0]) for pk in (1, 2, 3)]
    Item.objects.bulk_create(items)
    for item in items[:2]:
        item.embedding = np.array([0.5, 1, item.pk])
    items[2].embedding = None
    Item.objects.bulk_update(items, ["embedding"])
    found = [item.embedding for item in Item.objects.order_by("pk")]
    assert found[0].tolist() == [0.5, 1, 1]
    assert found[1].tolist() == [0.5, 1, 2]
    assert found[2] is None


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_deferred_iterated_copied_and_pickled():
    Item.objects.create(embedding=[1, 2, 3])
    assert Item.objects.defer("embedding").get().embedding.tolist() == [1, 2, 3]
    assert Item.objects.only("embedding").get().embedding.tolist() == [1, 2, 3]
    assert Item.objects.values().get()["embedding"].tolist() == [1, 2, 3]
    (item,) = Item.objects.iterator()
    pickled = pickle.loads(pickle.dumps(item))
    for twin in (copy.copy(item), copy.deepcopy(item), pickled):
        assert twin == item
        assert type(twin.embedding) is np.ndarray
        assert twin.embedding.tolist() == [1, 2, 3]
    query = pickle.loads(pickle.dumps(Item.objects.filter(embedding=[1, 2, 3]).query))
    rows = Item.objects.all()
    rows.query = query
    assert rows.get() == item


@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
def test_none_where_a_vector_is_needed(create_tables, django_assert_num_queries):
    class Model(models.Model):
        embedding = VectorField(dimensions=3)

        class Meta:
            app_label = "vector"

    create_tables(Model)
    item = Model.objects.create(embedding=[1, 2, 3])
    message = "vector.Model.embedding: a vector is needed, not None"
    with django_assert_num_queries(0):
        with pytest.raises(IntegrityError, match=message):
            Model.objects.create()
        with pytest.raises(IntegrityError, match=message):
            Model.objects.update(embedding=None)
    with pytest.raises(IntegrityError, match=message):
        Model.objects.bulk_create([Model(embedding=[1, 2, 3]), Model()])
    item.embedding = None
    with pytest.raises(IntegrityError, match=message):
        item.save()
    with pytest.raises(IntegrityError, match=message):
        Model.objects.bulk_update([item], ["embedding"])
    with pytest.raises(ValidationError, match="cannot be null"):
        item.full_clean()


@pytest.mark.works("vector")
@pytest.mark.django_db
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("indent", [None, 2])
def test_serializers(format, indent):
    vector = np.float32([0.1, -2.5e-8, 7.0385307e-26])
    other = np.float32([-0.0, 3.4028235e38, *np.arange(0, 9, 0.1)])
    Item.objects.create(pk=1, embedding=vector, other=other)
    Item.objects.create(pk=2)
    text = serializers.serialize(format, Item.objects.order_by("pk"), indent=indent)
    assert "[0.1,-2.5e-8,7.0385307e-26]" in str(text)
    Item.objects.all().delete()
    for restored in serializers.deserialize(format, text):
        restored.save()
    item, without = Item.objects.order_by("pk")
    assert item.embedding.tobytes() == vector.tobytes()
    assert item.other.tobytes() == other.tobytes()
    assert without.embedding is without.other is None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "value", [[1, 2.5, 3], (1, 2.5, 3), "[1, 2.5, 3]", array("d", [1, 2.5, 3])]
)
def test_serializers_of_rows_that_are_not_saved(format, value):
    text = serializers.serialize(format, [Item(embedding=value)])
    (restored,) = serializers.deserialize(format, text)
    assert restored.object.embedding.tolist() == [1, 2.5, 3]


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("json", '[{"model": "vector.item", "fields": {"embedding": [1, 2.5, 3]}}]'),
        ("jsonl", '{"model": "vector.item", "fields": {"embedding": [1, 2.5, 3]}}'),
        ("yaml", "- model: vector.item\n  fields: {embedding: [1, 2.5, 3]}"),
        (
            "yaml",
            "- model: vector.item\n  fields:\n    embedding:\n"
            "      - 1\n      - 2.5\n      - 3",
        ),
    ],
)
def test_fixtures_with_lists(format, text):
    (row,) = serializers.deserialize(format, text)
    assert row.object.embedding.tolist() == [1, 2.5, 3]


@pytest.mark.parametrize("format", ["json", "yaml"])
@pytest.mark.parametrize("value", ["[1, 2]", [1, 2]])
def test_fixtures_with_wrong_vectors(format, value):
    # JSON is also valid YAML.
    text = json.dumps([{"model": "vector.item", "fields": {"embedding": value}}])
    message = "expected 3 dimensions, not 2"
    with pytest.raises(serializers.base.DeserializationError, match=message):
        list(serializers.deserialize(format, text))


@pytest.mark.works("vector")
@pytest.mark.django_db
@pytest.mark.parametrize("format", ["json", "jsonl", "xml", "yaml"])
def test_dumpdata_and_loaddata(tmp_path, format):
    Item.objects.create(embedding=[0.1, 0.2, 0.3], other=[1])
    file = tmp_path / f"items.{format}"
    call_command("dumpdata", "vector", format=format, output=str(file))
    Item.objects.all().delete()
    call_command("loaddata", str(file), verbosity=0)
    item = Item.objects.get()
    assert item.embedding.tolist() == np.float32([0.1, 0.2, 0.3]).tolist()
    assert item.other.tolist() == [1]


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_inspectdb():
    output = io.StringIO()
    call_command("inspectdb", "vector_item", stdout=output)
    text = output.getvalue()
    assert "embedding = django_tidb_vector.VectorField(dimensions=3" in text
    assert "other = django_tidb_vector.VectorField(blank=True, null=True)" in text


@isolate_apps("tests.vector")
def test_defaults_that_are_arrays_can_be_written_to_migrations():
    field = VectorField(dimensions=2, default=np.array([0.1, 2]))
    kwargs = field.deconstruct()[3]
    assert kwargs == {"dimensions": 2, "default": [0.1, 2.0]}
    text, _ = MigrationWriter.serialize(field)
    assert text == ("django_tidb_vector.VectorField(default=[0.1, 2.0], dimensions=2)")


@pytest.mark.skipif(django.VERSION < (5, 0), reason="db_default is new in Django 5.0")
@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
def test_db_default(create_tables):
    class Model(models.Model):
        embedding = VectorField(dimensions=3, db_default=[1, 2.5, 3])

        class Meta:
            app_label = "vector"

    create_tables(Model)
    created = Model.objects.create()
    assert Model.objects.get(pk=created.pk).embedding.tolist() == [1, 2.5, 3]
    # The instance does not have the value of the database default yet.
    for model in (created, Model()):
        form_class = modelform_factory(Model, fields=["embedding"])
        assert 'name="embedding"' in form_class(instance=model).as_p()
        assert form_class({"embedding": "[1, 2, 4]"}, instance=model).has_changed()


@pytest.mark.skipif(django.VERSION < (5, 0), reason="db_default is new in Django 5.0")
@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("null", [False, True])
def test_add_field_with_db_default_to_rows(create_tables, null):
    class Model(models.Model):
        class Meta:
            app_label = "vector"

    create_tables(Model)
    Model.objects.create()
    field = VectorField(
        dimensions=3, null=null, default=[4, 5, 6], db_default=[1, 2.5, 3]
    )
    field.contribute_to_class(Model, "embedding")
    with connections["default"].schema_editor() as editor:
        editor.add_field(Model, field)
    with connections["default"].cursor() as cursor:
        cursor.execute("INSERT INTO vector_model (id) VALUES (2)")
    found = [row.embedding.tolist() for row in Model.objects.all()]
    assert found == [[1, 2.5, 3], [1, 2.5, 3]]


@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
def test_alter_dimensions_where_names_have_percent_signs(create_tables):
    class Model(models.Model):
        embedding = VectorField(dimensions=3, null=True, db_column="%s")

        class Meta:
            app_label = "vector"
            db_table = "vector 50%"

    create_tables(Model)
    with connections["default"].cursor() as cursor:
        cursor.execute("INSERT INTO `vector 50%` (`%s`) VALUES ('[1,2,3]')")
    new = VectorField(dimensions=4, null=True, db_column="%s")
    new.set_attributes_from_name("embedding")
    new.model = Model
    with (
        pytest.raises(DataError, match="1 row has 3"),
        connections["default"].schema_editor() as editor,
    ):
        editor.alter_field(Model, Model._meta.get_field("embedding"), new)


@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
def test_alter_dimensions(create_tables, django_assert_num_queries):
    class Model(models.Model):
        embedding = VectorField(dimensions=3, null=True)

        class Meta:
            app_label = "vector"

    def alter(old, new):
        new.set_attributes_from_name("embedding")
        new.model = Model
        with connections["default"].schema_editor() as editor:
            editor.alter_field(Model, old, new)
        return new

    create_tables(Model)
    pk = Model.objects.create(embedding=[1, 2, 3]).pk
    Model.objects.create()
    field = alter(Model._meta.get_field("embedding"), VectorField(null=True))
    assert Model.objects.get(pk=pk).embedding.tolist() == [1, 2, 3]
    with pytest.raises(DataError) as error:
        alter(field, VectorField(dimensions=4, null=True))
    assert str(error.value) == (
        "vector.Model.embedding cannot have 4 dimensions: 1 row has 3. Delete those "
        "vectors or replace them first."
    )
    field = alter(field, VectorField(dimensions=3, null=True))
    with pytest.raises(NotSupportedError, match="from vector\\(3\\) to longtext"):
        alter(field, models.TextField(null=True))
    Model.objects.filter(pk=pk).update(embedding=None)
    alter(field, VectorField(dimensions=4, null=True))
    with connections["default"].cursor() as cursor:
        (column,) = [
            column
            for column in connections["default"].introspection.get_table_description(
                cursor, "vector_model"
            )
            if column.name == "embedding"
        ]
    assert column.column_type == "vector(4)"


@isolate_apps("tests.vector")
@pytest.mark.parametrize("option", ["primary_key", "unique", "db_index"])
def test_check_keys(option):
    class Model(models.Model):
        field = VectorField(dimensions=3, **{option: True})

        class Meta:
            app_label = "vector"

    assert Model._meta.get_field("field").check() == [
        checks.Error(
            f"A vector cannot have {option}=True; TiDB has no keys of vectors.",
            hint="For the nearest vectors use a VectorIndex in Meta.indexes.",
            obj=Model._meta.get_field("field"),
            id="tidb_vector.E004",
        )
    ]


@isolate_apps("tests.vector")
def test_check_keys_of_several_columns():
    class Model(models.Model):
        field = VectorField(dimensions=3)
        number = models.IntegerField()

        class Meta:
            app_label = "vector"
            unique_together = [("number", "field")]
            indexes = [
                models.Index(fields=["field"], name="one"),
                models.Index(fields=["number"], name="harmless"),
            ]
            constraints = [
                models.UniqueConstraint(fields=["field"], name="two"),
                models.UniqueConstraint(F("field").desc(), "number", name="three"),
            ]

    Model._meta.indexes.append(models.Index(F("field"), name="four"))
    errors = Model._meta.get_field("field").check()
    assert {error.id for error in errors} == {"tidb_vector.E005"}
    assert [error.msg for error in errors] == [
        f"A vector cannot be part of {key}; TiDB has no keys of vectors."
        for key in (
            "unique_together",
            "the constraint 'two'",
            "the constraint 'three'",
            "the index 'one'",
            "the index 'four'",
        )
    ]


@pytest.mark.parametrize("option", ["default", "db_default"])
@pytest.mark.parametrize("value", [[1, 2], [1, 2, float("nan")], "[1"])
@isolate_apps("tests.vector")
def test_check_defaults(option, value):
    if option == "db_default" and django.VERSION < (5, 0):
        pytest.skip("db_default is new in Django 5.0")

    class Model(models.Model):
        field = VectorField(dimensions=3, **{option: value})
        right = VectorField(dimensions=3, **{option: [1, 2, 3]})

        class Meta:
            app_label = "vector"

    (error,) = Model._meta.get_field("field").check(databases=["default"])
    assert Model._meta.get_field("right").check(databases=["default"]) == []
    assert error.id == "tidb_vector.E009"
    assert error.msg.startswith(f"The {option} does not fit. vector.Model.field: ")
