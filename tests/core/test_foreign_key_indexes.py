"""Test the index that TiDB makes for a foreign key, and indexes that can replace it."""

from __future__ import annotations

import django
import pytest
from django.db import IntegrityError, OperationalError, connection, models
from django.db.models import F
from django.test.utils import CaptureQueriesContext

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.works("foreign-key"),
]


@pytest.fixture
def note(make_model, create_tables):
    """
    Return a model with a foreign key; its table has TiDB's index for the foreign key.
    """
    Tag = make_model("Tag")
    Note = make_model(
        "Note",
        tag=models.ForeignKey(Tag, models.CASCADE),
        rank=models.IntegerField(),
    )
    create_tables(Tag, Note)
    return Note


def indexes(model):
    """Return the columns of each index of a model's table except the primary key."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    columns = [
        constraint["columns"]
        for constraint in found.values()
        if constraint["index"] and not constraint["primary_key"]
    ]
    return sorted(columns, key=str)


def is_enforced(model):
    with pytest.raises(IntegrityError, match="1452"):
        model.objects.create(pk=1, tag_id=1, rank=1)
    return True


def altered(model, **changes):
    """Alter a field of a model, as AlterField does."""
    old = model._meta.get_field("tag")
    new = changes.pop("to")(old.remote_field.model, models.CASCADE, **changes)
    new.set_attributes_from_name(changes.pop("name", "tag"))
    new.model = model
    with connection.schema_editor() as editor:
        editor.alter_field(model, old, new, strict=True)
    return new


OBJECTS = {
    "index": models.Index(fields=["tag", "rank"], name="i"),
    "descending": models.Index(fields=["-tag", "rank"], name="i"),
    "unique": models.UniqueConstraint(fields=["tag", "rank"], name="i"),
    "same": models.Index(fields=["tag"], name="i"),
}


def add(model, what):
    with connection.schema_editor() as editor:
        if isinstance(what, models.Index):
            editor.add_index(model, what)
        else:
            editor.add_constraint(model, what)


def remove(model, what):
    with connection.schema_editor() as editor:
        if isinstance(what, models.Index):
            editor.remove_index(model, what)
        else:
            editor.remove_constraint(model, what)


@pytest.mark.parametrize("what", OBJECTS.values(), ids=OBJECTS)
def test_index_is_replaced_and_comes_back(note, what):
    assert indexes(note) == [["tag_id"]]
    add(note, what)
    assert indexes(note) == [["tag_id", "rank"][: len(what.fields)]]
    assert is_enforced(note)
    # Before the backend drops the index, it adds the foreign key's own index again.
    remove(note, what)
    assert indexes(note) == [["tag_id"]]
    assert is_enforced(note)


def test_index_is_replaced_by_unique_together(note):
    with connection.schema_editor() as editor:
        editor.alter_unique_together(note, set(), {("tag", "rank")})
    assert indexes(note) == [["tag_id", "rank"]]
    with connection.schema_editor() as editor:
        editor.alter_unique_together(note, {("tag", "rank")}, [])
    assert indexes(note) == [["tag_id"]]
    assert is_enforced(note)


@pytest.mark.skipif(
    django.VERSION >= (5, 1),
    reason="Django 5.1 has no index_together: "
    "https://docs.djangoproject.com/en/5.1/releases/5.1/",
)
def test_index_is_replaced_by_index_together(note):
    with connection.schema_editor() as editor:
        editor.alter_index_together(note, set(), {("tag", "rank")})
    assert indexes(note) == [["tag_id", "rank"]]


def test_index_is_replaced_by_one_to_one(note):
    altered(note, to=models.OneToOneField)
    assert indexes(note) == [["tag_id"]]
    assert is_enforced(note)


def test_index_is_replaced_after_the_column_was_renamed(note, make_model):
    field = altered(note, to=models.ForeignKey, name="label")
    Note = make_model(
        "RenamedNote",
        label=models.ForeignKey(field.remote_field.model, models.CASCADE),
        rank=models.IntegerField(),
        meta={"db_table": note._meta.db_table},
    )
    add(Note, models.Index(fields=["label", "rank"], name="i"))
    assert indexes(Note) == [["label_id", "rank"]]


def test_new_table_has_no_index_to_replace(note, make_model):
    tag = note._meta.get_field("tag").remote_field.model
    Entry = make_model(
        "Entry",
        tag=models.ForeignKey(tag, models.CASCADE),
        rank=models.IntegerField(),
    )
    with connection.schema_editor() as editor:
        editor.create_model(Entry)
        editor.alter_unique_together(Entry, set(), {("tag", "rank")})
    assert indexes(Entry) == [["tag_id", "rank"]]
    with connection.schema_editor() as editor:
        editor.delete_model(Entry)


OTHER_COLUMN_FIRST = models.Index(fields=["rank", "tag"], name="i")
# TiDB has no partial indexes, so the backend creates no index for this constraint.
CONDITION = models.UniqueConstraint(
    fields=["tag"], condition=models.Q(rank=1), name="j"
)
EXPRESSION = models.Index(F("tag") + 1, "rank", name="k")


def test_index_stays_beside_one_that_cannot_replace_it(note):
    for what in (OTHER_COLUMN_FIRST, CONDITION, EXPRESSION):
        add(note, what)
        assert ["tag_id"] in indexes(note)


def test_index_stays_beside_one_of_a_part_of_the_column(make_model, create_tables):
    class Part(models.Index):
        def create_sql(self, model, schema_editor, using="", **kwargs):
            return "CREATE INDEX i ON core_note (tag_id(5))"

    name = models.CharField(max_length=20, primary_key=True)
    Tag = make_model("Tag", name=name)
    Note = make_model("Note", tag=models.ForeignKey(Tag, models.CASCADE))
    create_tables(Tag, Note)
    add(Note, Part(fields=["tag"], name="i"))
    assert indexes(Note) == [["tag_id"], ["tag_id"]]


def test_an_index_of_the_projects_own_stays(note):
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX own ON core_note (tag_id)")
    add(note, OBJECTS["index"])
    assert indexes(note) == [["tag_id", "rank"], ["tag_id"]]


def test_index_that_another_table_refers_to_is_replaced(note):
    # Use raw SQL, because Django requires a unique column as the target of a foreign
    # key.
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE other (tag BIGINT, "
            "FOREIGN KEY (tag) REFERENCES core_note (tag_id))"
        )
    try:
        add(note, OBJECTS["index"])
        assert indexes(note) == [["tag_id", "rank"]]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE other")


def test_a_failure_leaves_the_table_as_it_was(note, monkeypatch):
    execute = connection.SchemaEditorClass.execute

    def fail(self, sql, params=()):
        if str(sql).startswith("DROP INDEX `core_note_tag_id"):
            raise OperationalError("lost")
        execute(self, sql, params)

    monkeypatch.setattr(connection.SchemaEditorClass, "execute", fail)
    with pytest.raises(OperationalError, match="lost"):
        add(note, OBJECTS["index"])
    assert indexes(note) == [["tag_id"]]


def test_other_indexes_cost_no_query(note):
    with CaptureQueriesContext(connection) as queries:
        add(note, OTHER_COLUMN_FIRST)
    (query,) = queries
    assert "ADD INDEX" in query["sql"] or "CREATE INDEX" in query["sql"]


def test_sqlmigrate_shows_the_replacement(note):
    with connection.schema_editor(collect_sql=True) as editor:
        editor.add_index(note, OBJECTS["index"])
        editor.add_constraint(note, CONDITION)
    first, second = editor.collected_sql
    assert first == "ALTER TABLE `core_note` ADD INDEX `i` (`tag_id`, `rank`);"
    assert second.startswith("DROP INDEX `core_note_tag_id_")
    # The table does not exist yet, so there is no index to replace.
    note._meta.db_table = "nosuch"
    with connection.schema_editor(collect_sql=True) as editor:
        editor.add_index(note, OBJECTS["index"])
    note._meta.db_table = "core_note"
    assert len(editor.collected_sql) == 1
