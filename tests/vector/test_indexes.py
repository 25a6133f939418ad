from __future__ import annotations

import pytest
from django.core import checks
from django.db import DatabaseError, NotSupportedError, connections, models
from django.db.migrations.writer import MigrationWriter

from django_tidb_vector import (
    CosineDistance,
    L1Distance,
    L2Distance,
    VectorField,
    VectorIndex,
    indexes,
)
from django_tidb_vector.indexes import IndexStatus, check_indexes

from .models import Item

CREATE = (
    "CREATE VECTOR INDEX `nearest` ON `vector_item` "
    "((VEC_COSINE_DISTANCE(`embedding`))) USING HNSW"
)
INLINE = "VECTOR INDEX `nearest` ((VEC_COSINE_DISTANCE(`embedding`))) USING HNSW"
REPLICA = "ALTER TABLE `vector_item` SET TIFLASH REPLICA 1"
DISABLED = "skip_vector_indexes_without_tiflash"


@pytest.fixture
def index():
    return VectorIndex(CosineDistance("embedding"), name="nearest")


@pytest.fixture
def connection(db):
    return connections["default"]


@pytest.fixture
def tiflash(monkeypatch):
    monkeypatch.setattr(indexes, "_has_tiflash", lambda connection: True)


@pytest.fixture
def without_tiflash(tidb):
    tidb.execute("SELECT type FROM information_schema.cluster_info")
    if ("tiflash",) in tidb.fetchall():
        pytest.skip("The cluster has TiFlash; tests/vector/test_tiflash.py runs.")


def test_by_field_and_metric_is_the_same(index):
    twin = VectorIndex(fields=["embedding"], metric=CosineDistance, name="nearest")
    assert twin == index
    assert hash(twin.expressions) == hash(index.expressions)
    assert index.clone() == index


def test_deconstruct(index):
    text, imports = MigrationWriter.serialize(index)
    assert text == (
        "django_tidb_vector.VectorIndex("
        "django_tidb_vector.CosineDistance('embedding'), "
        "name='nearest')"
    )
    assert "import django_tidb_vector" in imports
    index = VectorIndex(L2Distance("embedding"), name="nearest", tiflash_replicas=2)
    assert index.deconstruct()[2] == {"name": "nearest", "tiflash_replicas": 2}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "is about 0 expressions"),
        ({"fields": ["a"]}, TypeError, "needs a distance, or fields and a metric"),
        ({"metric": L2Distance}, TypeError, "has a metric, but no fields"),
        (
            {"fields": ["a", "b"], "metric": L2Distance},
            ValueError,
            "is about 2 expressions",
        ),
        (
            {"fields": ["a"], "metric": L2Distance, "tiflash_replicas": 0},
            ValueError,
            "tiflash_replicas=0; it must be None or an integer of 1 or more",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"VectorIndex 'nearest'.*{message}"):
        VectorIndex(name="nearest", **arguments)


@pytest.mark.works("vector")
def test_sql_for_an_empty_table(connection, index, tiflash):
    with connection.schema_editor(collect_sql=True) as editor:
        editor.add_index(Item, index)
    assert editor.collected_sql == [f"{REPLICA};", f"{CREATE};"]
    editor = connection.SchemaEditorClass(connection)
    statement = index.create_sql(Item, editor)
    assert str(statement) == CREATE
    assert list(map(str, statement.prerequisites)) == [REPLICA]
    assert statement.inline % statement.parts == INLINE


@pytest.mark.works("vector")
def test_rows_are_not_copied_unasked(connection, index, tiflash):
    Item.objects.create(embedding=[1, 2, 3])
    editor = connection.SchemaEditorClass(connection)
    with pytest.raises(NotSupportedError, match="'vector_item', which has rows"):
        index.create_sql(Item, editor)
    asked = VectorIndex(*index.expressions, name="nearest", tiflash_replicas=2)
    statement = asked.create_sql(Item, editor)
    assert list(map(str, statement.prerequisites)) == [REPLICA.replace("1", "2")]


@pytest.mark.works("vector")
def test_index_stands_inside_create_table(connection, index, tiflash, make_model):
    vector = VectorField(dimensions=3)
    Model = make_model("Model", embedding=vector, meta={"indexes": [index]})
    editor = connection.SchemaEditorClass(connection)
    sql, _ = editor.table_sql(Model)
    assert f", {INLINE})" in sql
    assert editor.deferred_sql == []


@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
def test_server_understands_the_sql_and_misses_tiflash(
    connection, index, tiflash, without_tiflash, make_model
):
    vector = VectorField(dimensions=3)
    Model = make_model("Model", embedding=vector, meta={"indexes": [index]})
    # The server has parsed the definition of the index when it raises this error.
    with (
        pytest.raises(DatabaseError, match="TiFlash store count is 0"),
        connection.schema_editor() as editor,
    ):
        editor.create_model(Model)
    with (
        pytest.raises(DatabaseError, match="total tiflash server count: 0"),
        connection.schema_editor() as editor,
    ):
        editor.add_index(Item, index)
    with (
        pytest.raises(DatabaseError, match="unsupported empty TiFlash replica"),
        connection.cursor() as cursor,
    ):
        cursor.execute(CREATE)


@pytest.mark.works("vector")
def test_error_without_tiflash_names_the_option(connection, index, without_tiflash):
    editor = connection.SchemaEditorClass(connection)
    with pytest.raises(NotSupportedError) as error:
        index.create_sql(Item, editor)
    assert str(error.value) == (
        "The index 'nearest' of vector.Item needs a TiFlash node, and the cluster of "
        "database 'default' has none. Add one, or leave vector indexes out there with "
        "OPTIONS = {'skip_vector_indexes_without_tiflash': True}: searches work "
        "without, but read all rows."
    )


@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
def test_index_is_left_out_without_tiflash_with_the_option(
    connection, index, without_tiflash, make_model, create_tables, monkeypatch
):
    indexes = [index, models.Index(fields=["id"], name="other")]
    vector = VectorField(dimensions=3)
    Model = make_model("Model", embedding=vector, meta={"indexes": indexes})
    options = {**connection.settings_dict["OPTIONS"], DISABLED: True}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    another = VectorIndex(L2Distance("embedding"), name="another")
    with pytest.warns(RuntimeWarning) as warned:
        create_tables(Model)
        with connection.schema_editor() as editor:
            editor.add_index(Model, another)
            editor.remove_index(Model, another)
    assert [str(warning.message) for warning in warned] == [
        f"Left out: The index '{name}' of vector.Model needs a TiFlash node, and "
        "the cluster of database 'default' has none."
        for name in ("nearest", "another")
    ]
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "vector_model")
    assert set(found) == {"PRIMARY", "other"}


@pytest.mark.works("vector")
def test_remove_sql(connection, index):
    editor = connection.SchemaEditorClass(connection)
    assert str(index.remove_sql(Item, editor)) == (
        "DROP INDEX `nearest` ON `vector_item`"
    )


@pytest.mark.works("vector")
def test_status_of_no_index(connection, index):
    assert index.status(Item) is None
    with pytest.raises(TimeoutError, match="TiFlash does not know it"):
        index.wait_until_built(Item, timeout=0)


def test_wait_until_built(index, monkeypatch):
    answers = iter([None, IndexStatus(5, 3), IndexStatus(8, 0)])
    monkeypatch.setattr(VectorIndex, "status", lambda *args, **kwargs: next(answers))
    assert index.wait_until_built(Item, interval=0) == IndexStatus(8, 0)


def test_checks_name_the_wrong_index(make_model):
    Model = make_model(
        "Model",
        free=VectorField(),
        fixed=VectorField(dimensions=3),
        number=models.IntegerField(),
        meta={
            "indexes": [
                VectorIndex(L1Distance("fixed"), name="i1"),
                VectorIndex(L2Distance("free"), name="i2"),
                VectorIndex(L2Distance("number"), name="i3"),
                VectorIndex(L2Distance("missing"), name="i4"),
                VectorIndex(CosineDistance("fixed"), name="i5"),
                VectorIndex(CosineDistance("fixed"), name="i6"),
            ]
        },
    )
    hint = "It must be a VectorField with dimensions of this model."
    found = [e for index in Model._meta.indexes for e in index.check_model(Model)]
    assert found == [
        checks.Error(
            "The VectorIndex 'i1' is about L1Distance; TiDB has indexes for L2Distance "
            "and CosineDistance.",
            obj=Model,
            id="tidb_vector.E006",
        ),
        checks.Error(
            "The VectorIndex 'i2' is about 'free', which has no fixed number of "
            "dimensions.",
            hint=hint,
            obj=Model,
            id="tidb_vector.E007",
        ),
        checks.Error(
            "The VectorIndex 'i3' is about 'number', which is a IntegerField.",
            hint=hint,
            obj=Model,
            id="tidb_vector.E007",
        ),
        checks.Error(
            "The VectorIndex 'i4' is about 'missing', which is not the name of a "
            "field.",
            hint=hint,
            obj=Model,
            id="tidb_vector.E007",
        ),
        checks.Error(
            "The VectorIndexes 'i5' and 'i6' are about the same distance of the same "
            "column; TiDB has one at most.",
            obj=Model,
            id="tidb_vector.E008",
        ),
    ]


def test_checks_are_registered():
    assert check_indexes in checks.registry.registry.get_checks()
    assert check_indexes() == []
