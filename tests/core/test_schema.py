from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, models
from django.test.utils import isolate_apps

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def created():
    """Create tables, and drop them at the end."""
    done = []

    def create(*classes):
        for model in classes:
            with connection.schema_editor() as editor:
                editor.create_model(model)
            done.append(model)

    with isolate_apps("tests.core"):
        yield create
    for model in reversed(done):
        with connection.schema_editor() as editor:
            editor.delete_model(model)


def add_field(model, name, field):
    field.set_attributes_from_name(name)
    field.model = model
    with connection.schema_editor() as editor:
        editor.add_field(model, field)
    return field


def constraints(model):
    with connection.cursor() as cursor:
        return connection.introspection.get_constraints(cursor, model._meta.db_table)


def test_add_unique_field(created):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    created(Tag)
    add_field(Tag, "slug", models.SlugField(unique=True, null=True))
    assert [
        info["columns"]
        for info in constraints(Tag).values()
        if info["unique"] and not info["primary_key"]
    ] == [["slug"]]


def test_add_unique_field_to_rows_that_are_equal(created):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    created(Tag)
    Tag.objects.bulk_create([Tag(), Tag()])
    # Nothing is left behind, so it can be tried again.
    for _ in range(2):
        with pytest.raises(IntegrityError, match="1062"):
            add_field(
                Tag, "slug", models.CharField(max_length=9, unique=True, default="x")
            )
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM core_tag")
        assert [column[0] for column in cursor.description] == ["id"]


@pytest.mark.works("foreign-key")
def test_add_one_to_one_field(created):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        class Meta:
            app_label = "core"

    created(Tag, Note)
    add_field(Note, "tag", models.OneToOneField(Tag, models.CASCADE, null=True))
    infos = [
        info for info in constraints(Note).values() if info["columns"] == ["tag_id"]
    ]
    assert any(info["foreign_key"] == ("core_tag", "id") for info in infos)
    assert any(info["unique"] for info in infos)


def test_add_text_field_with_a_default(created):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    created(Tag)
    Tag.objects.create()
    field = add_field(Tag, "text", models.TextField(default="filled in"))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {field.column} FROM core_tag")
        assert cursor.fetchall() == (("filled in",),)


@pytest.mark.works("foreign-key")
def test_foreign_keys_are_enforced(created):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        tag = models.ForeignKey(Tag, models.DO_NOTHING)

        class Meta:
            app_label = "core"

    created(Tag, Note)
    with pytest.raises(IntegrityError):
        Note.objects.create(tag_id=1)


def test_foreign_key_columns_are_indexed(created):
    # By the foreign key where there is one, else by Django.
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        tag = models.ForeignKey(Tag, models.DO_NOTHING)

        class Meta:
            app_label = "core"

    created(Tag, Note)
    assert [
        info["columns"]
        for info in constraints(Note).values()
        if info["index"] and not info["primary_key"]
    ] == [["tag_id"]]


def test_remove_fields_with_indexes(created):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        tag = models.ForeignKey(Tag, models.DO_NOTHING)
        slug = models.SlugField()
        code = models.CharField(max_length=5, unique=True)

        class Meta:
            app_label = "core"

    created(Tag, Note)
    with connection.schema_editor() as editor:
        for name in ("tag", "slug", "code"):
            editor.remove_field(Note, Note._meta.get_field(name))
    assert [info["columns"] for info in constraints(Note).values()] == [["id"]]


def test_rename_field(created):
    class Tag(models.Model):
        name = models.CharField(max_length=5, default="x")

        class Meta:
            app_label = "core"

    created(Tag)
    Tag.objects.create(name="kept")
    new = models.CharField(max_length=5, default="x")
    new.set_attributes_from_name("title")
    new.model = Tag
    with connection.schema_editor() as editor:
        editor.alter_field(Tag, Tag._meta.get_field("name"), new)
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM core_tag")
        assert cursor.fetchall() == (("kept",),)
