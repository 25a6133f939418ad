from __future__ import annotations

import re

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    connection,
    migrations,
    models,
    transaction,
)
from django.db.backends.ddl_references import Statement, Table
from django.db.migrations.state import ProjectState
from django.db.models import F
from django.db.models.expressions import RawSQL
from django.db.models.functions import Lower
from django.test.utils import CaptureQueriesContext, isolate_apps

from .models import check

pytestmark = pytest.mark.django_db(transaction=True)


def add_field(model, name, field):
    field.set_attributes_from_name(name)
    field.model = model
    with connection.schema_editor() as editor:
        editor.add_field(model, field)
    return field


def constraints(model):
    with connection.cursor() as cursor:
        return connection.introspection.get_constraints(cursor, model._meta.db_table)


def test_add_unique_field(create_tables):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    create_tables(Tag)
    add_field(Tag, "slug", models.SlugField(unique=True, null=True))
    assert [
        info["columns"]
        for info in constraints(Tag).values()
        if info["unique"] and not info["primary_key"]
    ] == [["slug"]]


def test_add_unique_field_to_rows_that_are_equal(create_tables):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    create_tables(Tag)
    Tag.objects.bulk_create([Tag(), Tag()])
    # The failed operation leaves nothing behind, so it can be tried again.
    for _ in range(2):
        with pytest.raises(IntegrityError, match="1062"):
            add_field(
                Tag, "slug", models.CharField(max_length=9, unique=True, default="x")
            )
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM core_tag")
        assert [column[0] for column in cursor.description] == ["id"]


@pytest.mark.works("foreign-key")
def test_add_one_to_one_field(create_tables):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        class Meta:
            app_label = "core"

    create_tables(Tag, Note)
    add_field(Note, "tag", models.OneToOneField(Tag, models.CASCADE, null=True))
    infos = [
        info for info in constraints(Note).values() if info["columns"] == ["tag_id"]
    ]
    assert any(info["foreign_key"] == ("core_tag", "id") for info in infos)
    assert any(info["unique"] for info in infos)


def test_add_text_field_with_a_default(create_tables):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    create_tables(Tag)
    Tag.objects.create()
    field = add_field(Tag, "text", models.TextField(default="filled in"))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {field.column} FROM core_tag")
        assert cursor.fetchall() == (("filled in",),)


@pytest.mark.works("foreign-key")
def test_foreign_keys_are_enforced(create_tables):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        tag = models.ForeignKey(Tag, models.DO_NOTHING)

        class Meta:
            app_label = "core"

    create_tables(Tag, Note)
    with pytest.raises(IntegrityError):
        Note.objects.create(tag_id=1)


def test_foreign_key_columns_are_indexed(create_tables):
    # The server creates the index for the foreign key. On a server without foreign
    # keys, Django creates it.
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        tag = models.ForeignKey(Tag, models.DO_NOTHING)

        class Meta:
            app_label = "core"

    create_tables(Tag, Note)
    assert [
        info["columns"]
        for info in constraints(Note).values()
        if info["index"] and not info["primary_key"]
    ] == [["tag_id"]]


def test_remove_fields_with_indexes(create_tables):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        tag = models.ForeignKey(Tag, models.DO_NOTHING)
        slug = models.SlugField()
        code = models.CharField(max_length=5, unique=True)

        class Meta:
            app_label = "core"

    create_tables(Tag, Note)
    with connection.schema_editor() as editor:
        for name in ("tag", "slug", "code"):
            editor.remove_field(Note, Note._meta.get_field(name))
    assert [info["columns"] for info in constraints(Note).values()] == [["id"]]


def test_sqlmigrate_of_removing_a_field_from_a_table_that_is_gone():
    with isolate_apps("tests.core"):

        class Gone(models.Model):
            slug = models.SlugField()

            class Meta:
                app_label = "core"

    with connection.schema_editor(collect_sql=True) as editor:
        editor.remove_field(Gone, Gone._meta.get_field("slug"))
    assert "DROP COLUMN `slug`" in editor.collected_sql[-1]


def test_rename_field(create_tables):
    class Tag(models.Model):
        name = models.CharField(max_length=5, default="x")

        class Meta:
            app_label = "core"

    create_tables(Tag)
    Tag.objects.create(name="kept")
    new = models.CharField(max_length=5, default="x")
    new.set_attributes_from_name("title")
    new.model = Tag
    with connection.schema_editor() as editor:
        editor.alter_field(Tag, Tag._meta.get_field("name"), new)
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM core_tag")
        assert cursor.fetchall() == (("kept",),)


# -- One statement per table


@pytest.fixture
def statements():
    """
    Return a function that calls its argument with a schema editor, and returns the DDL
    that was sent.
    """

    def capture(function):
        with (
            CaptureQueriesContext(connection) as context,
            connection.schema_editor() as editor,
        ):
            function(editor)
        return [
            query["sql"]
            for query in context.captured_queries
            if query["sql"].startswith(("ALTER", "CREATE", "DROP", "RENAME", "SET"))
        ]

    return capture


@pytest.fixture
def bay_and_item():
    with isolate_apps("tests.core"):

        class Bay(models.Model):
            class Meta:
                app_label = "core"

        class Item(models.Model):
            bay = models.ForeignKey(Bay, models.CASCADE, related_name="+")
            parent = models.ForeignKey("self", models.CASCADE, null=True)
            others = models.ManyToManyField(Bay, related_name="+")
            name = models.CharField(max_length=9, db_index=True)
            code = models.CharField(max_length=9, unique=True, db_comment="50% 'off'")

            class Meta:
                app_label = "core"
                db_table_comment = "it's 100%"
                unique_together = [("bay", "name")]
                indexes = [
                    models.Index(fields=["code", "name"], name="slot_code_name"),
                    models.Index(Lower("name"), name="slot_lower"),
                ]
                constraints = [
                    models.CheckConstraint(
                        **{check: models.Q(name__contains="%")}, name="slot_check"
                    ),
                    models.UniqueConstraint(Lower("code"), name="slot_unique_lower"),
                ]

        yield Bay, Item
    with connection.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0")
        for table in ("core_item_others", "core_item", "core_bay", "core_rack"):
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
        cursor.execute("SET foreign_key_checks = 1")


def definition(table):
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW CREATE TABLE {table}")
        return cursor.fetchone()[1]


def test_percent_signs_in_names_and_values(create_tables):
    class Share(models.Model):
        value = models.IntegerField(db_column="share (%)", db_comment="in %")

        class Meta:
            app_label = "core"

    create_tables(Share)
    assert "NOT NULL COMMENT 'in %'" in definition("core_share")


@pytest.mark.works("expression-index")
def test_create_model_in_one_statement(bay_and_item, statements):
    Bay, Item = bay_and_item
    sent = statements(lambda editor: list(map(editor.create_model, (Bay, Item))))
    assert [sql.split(" (")[0] for sql in sent] == [
        "CREATE TABLE `core_bay`",
        "CREATE TABLE `core_item`",
        "CREATE TABLE `core_item_others`",
    ]
    text = definition("core_item")
    for part in ("slot_code_name", "slot_lower", "slot_unique_lower", "_uniq"):
        assert part in text
    assert "COMMENT='it''s 100%'" in text
    assert "COMMENT '50% ''off'''" in text
    if connection.features.supports_foreign_keys:
        assert text.count("FOREIGN KEY") == 2
        assert definition("core_item_others").count("FOREIGN KEY") == 2
    if connection.features.supports_table_check_constraints:
        assert "'%%'" not in text


@pytest.fixture
def initial():
    """Return operations in makemigrations' order: first all tables, then the rest."""
    share = models.CheckConstraint(**{check: ~models.Q(name="50%")}, name="slot_share")
    operations = [
        migrations.CreateModel("Bay", [("id", models.AutoField(primary_key=True))]),
        migrations.CreateModel(
            "Item",
            [
                ("id", models.AutoField(primary_key=True)),
                ("bay", models.ForeignKey("core.Bay", models.CASCADE)),
                ("name", models.CharField(max_length=9)),
                ("size", models.IntegerField(null=True)),
            ],
        ),
        migrations.AddIndex("Bay", models.Index(fields=["id"], name="bay_id")),
        migrations.AddIndex("Item", models.Index(fields=["name"], name="item_name")),
        migrations.AlterUniqueTogether("Item", {("bay", "name")}),
        migrations.AddConstraint("Item", share),
        migrations.AddConstraint(
            "Item", models.UniqueConstraint(fields=["size"], name="item_size")
        ),
    ]

    def apply(editor, *more):
        migration = migrations.Migration("0001_initial", "core")
        migration.operations = [*operations, *more]
        migration.apply(ProjectState(), editor, collect_sql=editor.collect_sql)

    yield apply
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS core_item, core_bay")


def check_initial():
    assert "KEY `bay_id` (`id`)" in definition("core_bay")
    text = definition("core_item")
    for part in (
        "UNIQUE KEY `core_item_bay_id_name_",
        "UNIQUE KEY `item_size` (`size`)",
        "KEY `item_name` (`name`)",
    ):
        assert part in text
    if connection.features.supports_table_check_constraints:
        assert "'50%'" in text


def test_migration_in_one_statement_a_table(initial, statements, check_constraints):
    sent = statements(initial)
    assert [sql.split(" (")[0] for sql in sent] == [
        "CREATE TABLE `core_bay`",
        "CREATE TABLE `core_item`",
    ]
    check_initial()


def test_sqlmigrate_of_a_migration(initial, check_constraints):
    with connection.schema_editor(collect_sql=True) as editor:
        initial(editor)
    with connection.cursor() as cursor:
        for sql in editor.collected_sql:
            if not sql.startswith("--"):
                assert sql.startswith("CREATE TABLE")
                cursor.execute(sql)
    check_initial()
    collected = editor.collected_sql
    (place,) = (n for n, sql in enumerate(collected) if "index item_name" in sql)
    assert collected[place + 2] == ("-- In CREATE TABLE: INDEX `item_name` (`name`)")


@pytest.mark.works("alter-several")
def test_additions_to_a_table_in_one_statement(bay_and_item, statements):
    Bay, Item = bay_and_item
    with connection.schema_editor() as editor:
        editor.create_model(Bay)
        editor.create_model(Item)

    def add(editor):
        editor.alter_unique_together(
            Item, {("bay", "name")}, {("bay", "code"), ("parent", "code")}
        )
        editor.add_index(Item, models.Index(fields=["name"], name="more_name"))

    with connection.schema_editor(collect_sql=True) as editor:
        add(editor)
    collected = [sql for sql in editor.collected_sql if not sql.startswith("--")]
    sent = statements(add)
    assert collected == [f"{sql};" for sql in sent]
    added = [len(re.findall(r"ADD (?:CONSTRAINT|INDEX)", sql)) for sql in sent]
    # The statements add an index that the foreign key needs for the time being, drop an
    # index, add the two constraints, drop the index of the other foreign key, and
    # create the index of the next operation.
    assert added == [1, 0, 2, 0, 0]


@pytest.mark.works("alter-several")
def test_additions_are_all_or_nothing(bay_and_item):
    Bay, Item = bay_and_item
    with connection.schema_editor() as editor:
        editor.create_model(Bay)
        editor.create_model(Item)
    bay = Bay.objects.create()
    for code in "ab":
        Item.objects.create(bay=bay, code=code, name=code)
    before = definition("core_item")
    # Two rows have the same values, so one of the new indexes is refused.
    with pytest.raises(IntegrityError), connection.schema_editor() as editor:
        editor.alter_unique_together(
            Item, {("bay", "name")}, {("bay", "code"), ("name", "code"), ("bay",)}
        )
    lines, before = (
        sorted(line.strip(" ,") for line in text.split("\n"))
        for text in (definition("core_item"), before)
    )
    assert lines == before


@pytest.mark.parametrize("atomic", [True, False])
def test_tables_are_there_for_functions_of_a_migration(initial, atomic):
    def load(apps, editor):
        # Another connection sees the tables as well.
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT COUNT(*) FROM core_item")
        finally:
            other.close()
        apps.get_model("core", "Bay").objects.create(id=5)

    with connection.cursor() as cursor, connection.schema_editor() as editor:
        more = migrations.AddIndex(
            "Item", models.Index(fields=["size"], name="item_size_too")
        )
        initial(editor, migrations.RunPython(load, atomic=atomic), more)
        cursor.execute("SELECT id FROM core_bay")
        assert cursor.fetchall() == ((5,),)
    check_initial()
    assert "KEY `item_size_too`" in definition("core_item")


@pytest.mark.works("foreign-key")
def test_schema_editor_within_another(bay_and_item):
    Bay, Item = bay_and_item
    with connection.schema_editor() as outer:
        outer.create_model(Bay)
        with connection.schema_editor() as inner:
            inner.create_model(Item)
            assert "core_bay" in connection.introspection.table_names()
        outer.add_index(Item, models.Index(fields=["bay"], name="more_bay"))
    assert "KEY `more_bay`" in definition("core_item")


def test_interleaved_schema_editors(initial):
    with (
        connection.schema_editor() as editor,
        connection.schema_editor(collect_sql=True) as collecting,
        editor.gathering("a test"),
    ):
        with isolate_apps("tests.core"):

            class Bay(models.Model):
                class Meta:
                    app_label = "core"

        editor.create_model(Bay)
        collecting.add_index(Bay, models.Index(fields=["id"], name="collected"))
        assert Bay.objects.count() == 0


def test_create_model_twice(bay_and_item):
    Bay, _ = bay_and_item
    with (
        pytest.raises(OperationalError, match="already exists"),
        connection.schema_editor() as editor,
    ):
        editor.create_model(Bay)
        editor.create_model(Bay)


def test_schema_editor_that_is_not_entered(bay_and_item):
    Bay, _ = bay_and_item
    connection.schema_editor().create_model(Bay)
    assert "core_bay" in connection.introspection.table_names()


def test_statement_with_parameters_for_a_table_that_waits(bay_and_item):
    Bay, _ = bay_and_item
    with connection.schema_editor() as editor, editor.gathering("a test"):
        editor.create_model(Bay)
        statement = Statement(
            "ALTER TABLE %(table)s ADD COLUMN name VARCHAR(9) DEFAULT %%s",
            table=Table("core_bay", editor.quote_name),
        )
        editor.execute(statement, ["x"])
    assert "`name` varchar(9) DEFAULT 'x'" in definition("core_bay")


@pytest.mark.works("foreign-key")
def test_forward_reference_that_is_gone(bay_and_item):
    _, Item = bay_and_item
    with connection.schema_editor() as editor:
        editor.create_model(Item)
        editor.delete_model(Item)


def test_sqlmigrate_of_clauses_with_line_breaks(bay_and_item):
    Bay, _ = bay_and_item
    condition = models.Q(id__gt=RawSQL("1\n+\n1", []))
    with (
        connection.schema_editor(collect_sql=True) as editor,
        editor.gathering("a test"),
    ):
        editor.create_model(Bay)
        index = models.Index(F("id") + RawSQL("1\n+\n1", []), name="bay_lines")
        editor.add_index(Bay, index)
        if connection.features.supports_table_check_constraints:
            editor.add_constraint(
                Bay, models.CheckConstraint(**{check: condition}, name="bay_check")
            )
    for line in editor.collected_sql[1:]:
        assert re.fullmatch("--.*", line)


def test_unique_together_that_cannot_be_written(create_tables, monkeypatch):
    class Tag(models.Model):
        x = models.IntegerField()
        y = models.IntegerField()
        z = models.IntegerField()

        class Meta:
            app_label = "core"
            unique_together = [("x", "z")]

    create_tables(Tag)
    before = definition("core_tag")

    def fail(*args):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), connection.schema_editor() as editor:
        monkeypatch.setattr(editor, "_create_unique_sql", fail)
        editor.alter_unique_together(Tag, {("x", "z")}, {("x", "y")})
    assert definition("core_tag") == before


def test_an_error_in_a_migration_leaves_no_table(initial):
    unknown = migrations.AddField("Unknown", "size", models.IntegerField())
    with pytest.raises(KeyError), connection.schema_editor() as editor:
        initial(editor, unknown)
    names = connection.introspection.table_names()
    assert [name for name in names if name in ("core_bay", "core_item")] == []
    # The connection can still be used, also in a transaction.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.works("foreign-key")
def test_forward_reference(bay_and_item, statements):
    Bay, Item = bay_and_item
    sent = statements(lambda editor: list(map(editor.create_model, (Item, Bay))))
    assert [sql.split(" (")[0] for sql in sent] == [
        "CREATE TABLE `core_item`",
        "CREATE TABLE `core_item_others`",
        "CREATE TABLE `core_bay`",
    ]
    with pytest.raises(IntegrityError):
        Item.objects.create(bay_id=1, code="a")


def test_reference_to_a_table_in_other_letters(create_tables):
    class Parent(models.Model):
        class Meta:
            app_label = "core"
            db_table = "core_other_LETTERS"

    class Child(models.Model):
        parent = models.ForeignKey(Parent, models.CASCADE)

        class Meta:
            app_label = "core"

    create_tables(Parent)
    Parent._meta.db_table = "Core_Other_Letters"
    create_tables(Child)
    supported = connection.features.supports_foreign_keys
    assert any(c["foreign_key"] for c in constraints(Child).values()) == supported


@pytest.mark.works("foreign-key")
def test_forward_reference_that_stays_one(bay_and_item):
    _, Item = bay_and_item
    with (
        pytest.raises(OperationalError, match=r"'core_item.*'core_bay'"),
        connection.schema_editor() as editor,
    ):
        editor.create_model(Item)
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@foreign_key_checks")
        assert cursor.fetchone() == (1,)


@pytest.mark.works("foreign-key")
def test_foreign_key_checks_after_an_error(bay_and_item):
    Bay, Item = bay_and_item
    Item._meta.get_field("name").max_length = 99999
    with pytest.raises(DatabaseError), connection.schema_editor() as editor:
        editor.create_model(Item)
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@foreign_key_checks")
        assert cursor.fetchone() == (1,)
        # A session that had foreign_key_checks off before keeps this value.
        cursor.execute("SET foreign_key_checks = 0")
        Item._meta.get_field("name").max_length = 9
        with connection.schema_editor() as editor:
            editor.create_model(Item)
            editor.create_model(Bay)
        cursor.execute("SELECT @@foreign_key_checks")
        assert cursor.fetchone() == (0,)
        cursor.execute("SET foreign_key_checks = 1")


@pytest.mark.works("foreign-key")
def test_sqlmigrate_of_a_forward_reference(bay_and_item):
    Bay, Item = bay_and_item
    with connection.schema_editor(collect_sql=True) as editor:
        editor.create_model(Item)
        editor.create_model(Bay)
    collected = editor.collected_sql
    assert collected[0] == "SET foreign_key_checks = 0;"
    assert collected[2] == "SET foreign_key_checks = 1;"
    with connection.cursor() as cursor:
        for sql in collected:
            cursor.execute(sql)
    assert "FOREIGN KEY" in definition("core_item")


@pytest.mark.works("foreign-key")
def test_reference_of_another_type():
    # The schema editor raises this error; the server's error would be about Bay's
    # table.
    with isolate_apps("tests.core"):

        class Bay(models.Model):
            code = models.CharField(max_length=9)

            class Meta:
                app_label = "core"

        class Item(models.Model):
            bay = models.ForeignKey(Bay, models.CASCADE, to_field="code")

            class Meta:
                app_label = "core"

        with (
            pytest.raises(OperationalError, match=r"Item\.bay.*Bay\.code.*unique"),
            connection.schema_editor() as editor,
        ):
            editor.create_model(Item)


@pytest.mark.works("foreign-key")
def test_rename_after_an_inline_create(bay_and_item):
    # Do both in one schema editor: no deferred SQL may contain the old name.
    Bay, Item = bay_and_item
    old = Item._meta.get_field("bay")
    new = models.ForeignKey(Bay, models.CASCADE, related_name="+", db_column="rack_id")
    new.set_attributes_from_name("bay")
    new.model = Item
    with connection.schema_editor() as editor:
        editor.create_model(Bay)
        editor.create_model(Item)
        editor.alter_db_table(Bay, "core_bay", "core_rack")
        Bay._meta.db_table = "core_rack"
        editor.alter_field(Item, old, new, strict=True)
    text = definition("core_item")
    assert re.search(r"\(`rack_id`\) REFERENCES (`\w+`\.)?`core_rack` \(`id`\)", text)
    assert "`bay_id`" not in text


@pytest.mark.works("alter-several")
@pytest.mark.works("foreign-key")
def test_added_one_to_one_field_has_one_index(create_tables, statements):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Note(models.Model):
        class Meta:
            app_label = "core"

    create_tables(Tag, Note)
    field = models.OneToOneField(Tag, models.CASCADE, null=True)
    field.set_attributes_from_name("tag")
    field.model = Note
    sent = statements(lambda editor: editor.add_field(Note, field))
    assert len(sent) == 3
    for sql, part in zip(sent, ("ADD COLUMN", "UNIQUE", "FOREIGN KEY"), strict=True):
        assert part in sql
    assert definition("core_note").count("KEY `") == 1


def test_alter_type_and_null_in_one_statement(create_tables, statements):
    class Tag(models.Model):
        name = models.IntegerField(null=True, db_comment="kept")

        class Meta:
            app_label = "core"

    create_tables(Tag)
    new = models.BigIntegerField(db_comment="kept")
    new.set_attributes_from_name("name")
    new.model = Tag
    sent = statements(
        lambda editor: editor.alter_field(Tag, Tag._meta.get_field("name"), new)
    )
    assert len(sent) == 1
    assert re.search(
        r"`name` bigint(\(20\))? NOT NULL COMMENT 'kept'", definition("core_tag")
    )


def test_added_field_has_its_check(create_tables, check_constraints):
    class Small(models.IntegerField):
        def db_check(self, connection):
            return "`size` < 10"

    class Tag(models.Model):
        class Meta:
            app_label = "core"

    create_tables(Tag)
    Tag.objects.create()
    size = add_field(Tag, "size", Small(default=1))
    assert ("CHECK ((`size` < 10))" in definition("core_tag")) == check_constraints
    if not check_constraints:
        return
    with pytest.raises(DatabaseError, match="core_tag_size_"), connection.cursor() as c:
        c.execute("INSERT INTO core_tag (size) VALUES (10)")
    with connection.schema_editor() as editor:
        editor.remove_field(Tag, size)
    assert "size" not in definition("core_tag")


@pytest.mark.parametrize("comment", ["100%", "5% off", "%s %(a)s %%", "b\n'%%s"])
def test_table_comments_with_percent_signs(create_tables, comment):
    class Tag(models.Model):
        class Meta:
            app_label = "core"
            db_table_comment = "90%"

    create_tables(Tag)
    with connection.schema_editor() as editor:
        editor.alter_db_table_comment(Tag, "90%", comment)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_comment FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = 'core_tag'"
        )
        assert cursor.fetchone() == (comment,)


def test_a_column_that_a_generated_one_uses_cannot_be_dropped(create_tables):
    class Tag(models.Model):
        name = models.CharField(max_length=9)

        class Meta:
            app_label = "core"

    create_tables(Tag)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE core_tag ADD COLUMN low TEXT AS (LOWER(name))")
    before = definition("core_tag")
    with (
        pytest.raises(DatabaseError, match="generated column"),
        connection.schema_editor() as editor,
    ):
        editor.remove_field(Tag, Tag._meta.get_field("name"))
    assert definition("core_tag") == before


def test_references_take_the_new_type_of_a_key():
    key = ("id", models.AutoField(primary_key=True))
    named = models.OneToOneField("core.Tag", models.CASCADE, primary_key=True)
    tag = models.ForeignKey("core.Tag", models.CASCADE, null=True)
    of_named = models.ForeignKey("core.Named", models.CASCADE, null=True)
    creation = migrations.Migration("creation", "core")
    creation.operations = [
        migrations.CreateModel("Tag", [key]),
        migrations.CreateModel("Named", [("tag", named)]),
        migrations.CreateModel("Note", [key, ("tag", tag), ("named", of_named)]),
    ]
    change = migrations.Migration("change", "core")
    change.operations = [
        migrations.AlterField("Tag", "id", models.BigAutoField(primary_key=True))
    ]
    state = ProjectState()
    try:
        for migration in (creation, change):
            with connection.schema_editor() as editor:
                state = migration.apply(state, editor)
        for table, column, type_ in (
            ("tag", "id", "bigint"),
            ("named", "tag_id", "bigint"),
            ("note", "tag_id", "bigint"),
            ("note", "named_id", "bigint"),
            ("note", "id", "int"),
        ):
            assert re.search(f"`{column}` {type_}", definition(f"core_{table}"))
    finally:
        with connection.schema_editor() as editor:
            for name in ("note", "named", "tag"):
                editor.delete_model(state.apps.get_model("core", name))


@pytest.mark.long
@pytest.mark.works("modify-lossy")
def test_alteration_that_fails_leaves_the_table_as_it_was(create_tables):
    class Tag(models.Model):
        name = models.CharField(max_length=5, db_index=True)

        class Meta:
            app_label = "core"

    create_tables(Tag)
    Tag.objects.bulk_create([Tag(name="x"), Tag(name="x")])
    before = definition("core_tag")
    new = models.CharField(max_length=9, unique=True, null=True, db_column="title")
    new.set_attributes_from_name("name")
    new.model = Tag
    # The column is renamed and changed before the unique index is refused.
    for _ in range(2):
        with (
            pytest.raises(IntegrityError, match="1062"),
            connection.schema_editor() as editor,
        ):
            editor.alter_field(Tag, Tag._meta.get_field("name"), new)
        after = definition("core_tag")
        assert sorted(after.split(",\n")) == sorted(before.split(",\n"))
    Tag.objects.filter(pk=Tag.objects.last().pk).update(name="y")
    with connection.schema_editor() as editor:
        editor.alter_field(Tag, Tag._meta.get_field("name"), new)
    assert "`title` varchar(9)" in definition("core_tag")


def test_failed_addition_leaves_the_column_of_another_client(create_tables, tidb):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    create_tables(Tag)
    field = models.CharField(max_length=5, null=True)
    field.set_attributes_from_name("name")
    field.model = Tag

    def other_adds_first(execute, sql, *args):
        if "ADD COLUMN" in sql:
            table = f"`{connection.settings_dict['NAME']}`.core_tag"
            tidb.execute(f"ALTER TABLE {table} ADD COLUMN name VARCHAR(5)")
            tidb.execute(f"INSERT INTO {table} (id, name) VALUES (1, 'hers')")
        return execute(sql, *args)

    with (
        pytest.raises(DatabaseError, match="1060"),
        connection.schema_editor() as editor,
        connection.execute_wrapper(other_adds_first),
    ):
        editor.add_field(Tag, field)
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM core_tag")
        assert cursor.fetchall() == (("hers",),)


def test_column_that_cannot_be_removed_keeps_its_foreign_key(create_tables):
    class Tag(models.Model):
        class Meta:
            app_label = "core"

    class Link(models.Model):
        tag = models.ForeignKey(Tag, models.CASCADE)
        number = models.IntegerField()

        class Meta:
            app_label = "core"
            constraints = [
                models.UniqueConstraint(fields=["tag", "number"], name="core_link_both")
            ]

    create_tables(Tag, Link)
    Link.objects.create(tag=Tag.objects.create(), number=1)
    before = sorted(definition("core_link").split(",\n"))
    with (
        pytest.raises(NotSupportedError, match="core_link"),
        connection.schema_editor() as editor,
    ):
        editor.remove_field(Link, Link._meta.get_field("tag"))
    assert sorted(definition("core_link").split(",\n")) == before


def test_unique_together_that_fails_leaves_the_table_as_it_was(create_tables):
    class Tag(models.Model):
        a = models.IntegerField()
        b = models.IntegerField()
        c = models.IntegerField()

        class Meta:
            app_label = "core"
            unique_together = [("a", "c")]

    create_tables(Tag)
    Tag.objects.bulk_create([Tag(a=1, b=1, c=1), Tag(a=1, b=1, c=2)])
    before = sorted(definition("core_tag").split(",\n"))
    # The server can create two of the unique indexes, but not the third.
    new = [("a", "b", "c"), ("b", "c"), ("a", "b")]
    for _ in range(2):
        with (
            pytest.raises(IntegrityError, match="1062"),
            connection.schema_editor() as editor,
        ):
            editor.alter_unique_together(Tag, [("a", "c")], new)
        assert sorted(definition("core_tag").split(",\n")) == before
    Tag.objects.filter(c=2).update(b=2)
    with connection.schema_editor() as editor:
        editor.alter_unique_together(Tag, [("a", "c")], new)
    assert sum(info["unique"] for info in constraints(Tag).values()) == 4


def test_remove_a_check_that_the_server_ignored(create_tables, check_constraints):
    if not check_constraints:
        pytest.skip(
            "TiDB has CHECK constraints from 7.2: "
            "https://docs.pingcap.com/tidb/stable/constraints#check"
        )

    class Tag(models.Model):
        a = models.IntegerField()

        class Meta:
            app_label = "core"

    create_tables(Tag)
    constraint = models.CheckConstraint(**{check: models.Q(a__gt=0)}, name="positive")
    with connection.schema_editor() as editor:
        editor.remove_constraint(Tag, constraint)
        editor.add_constraint(Tag, constraint)
        editor.remove_constraint(Tag, constraint)
    assert "CHECK" not in definition("core_tag")


def test_expression_index_where_there_is_none(create_tables, statements, monkeypatch):
    class Tag(models.Model):
        name = models.CharField(max_length=9)

        class Meta:
            app_label = "core"

    create_tables(Tag)
    monkeypatch.setattr(connection.features, "supports_expression_indexes", False)
    index = models.Index(Lower("name"), name="tag_lower")
    assert statements(lambda editor: editor.add_index(Tag, index)) == []
