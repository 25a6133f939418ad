"""
Test tables of another database, which db_table = "other`.`name" names.

Django's MySQL backend leaves two forms of such a name as they are; the tests use both.
"""

from __future__ import annotations

import re

import pytest
from django.db import DatabaseError, IntegrityError, connection, models
from django.test.utils import isolate_apps

from django_tidb import rebuild
from django_tidb.names import TableName

from .models import check

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.thorough]

# Statements with parameters have to escape this name, and its letters are not all lower
# case, unlike those of the tables' names.
OTHER = "test_Other 50%"


def run(*statements):
    """Send SQL without parameters, and return the rows of the last statement."""
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql, None)
        return cursor.fetchall()


def database():
    return connection.settings_dict["NAME"]


@pytest.fixture(autouse=True)
def drops():
    before = {name for (name,) in run("SHOW TABLES")}
    run(f"CREATE DATABASE `{OTHER}`")
    with isolate_apps("tests.core"):
        yield
    run("SET foreign_key_checks = 0", f"DROP DATABASE `{OTHER}`")
    for (name,) in run("SHOW TABLES"):
        if name not in before:
            run(f"DROP TABLE `{name}`")
    run("SET foreign_key_checks = 1")


@pytest.fixture(params=[f"{OTHER}`.`%s", f"`{OTHER}`.`%s`"], ids=["open", "quoted"])
def named(request):
    """Return a function that returns the db_table of a table in the other database."""
    return lambda name: request.param.replace("%s", name)


def model_of(table, fields=None, **meta):
    meta = type("Meta", (), {"app_label": "core", "db_table": table, **meta})
    namespace = {"__module__": __name__, "Meta": meta, **(fields or {})}
    name = TableName.of(table)
    there = "There" if name.database else ""
    return type(f"{name.name.title()}{there}", (models.Model,), namespace)


def edit(name, *args):
    with connection.schema_editor() as editor:
        getattr(editor, name)(*args)


def field_of(model, name, field):
    field.set_attributes_from_name(name)
    field.model = model
    return field


def definition(table):
    return run(f"SHOW CREATE TABLE {table}")[0][1]


def without_counter(table):
    return re.sub(r" AUTO_INCREMENT(=\d+)?\b", "", definition(table))


# -- The same as in the current database


class Pair:
    """
    Two models whose tables have the same name: one in the current database, one in the
    other database. The same operation has to have the same result on both tables.
    """

    def __init__(self, here, there):
        self.models = here, there

    def edit(self, name, *args):
        """
        Call a method of the schema editor for both models. A callable argument is
        called with the model, and its result is the argument.
        """
        for model in self.models:
            edit(name, model, *(a(model) if callable(a) else a for a in args))
        self.compare()

    def compare(self):
        here, there = (
            definition(connection.ops.quote_name(model._meta.db_table)).replace(
                # TiDB 7.5 writes the name of the database before the name of a
                # referenced table.
                f" REFERENCES `{name}`.",
                " REFERENCES ",
            )
            for model, name in zip(self.models, (database(), OTHER), strict=True)
        )
        assert here == there
        rows = [
            run(f"SELECT * FROM {connection.ops.quote_name(model._meta.db_table)}")
            for model in self.models
        ]
        assert rows[0] == rows[1]
        return here


@pytest.fixture
def tags(named):
    """Return models of two tables "tag", one in each database, by the database."""
    models_ = [model_of(name, {}) for name in ("tag", named("tag"))]
    for model in models_:
        edit("create_model", model)
    return dict(zip((database(), OTHER), models_, strict=True))


@pytest.fixture
def pair(named, tags):
    def fields():
        return {
            "a": models.IntegerField(),
            "b": models.IntegerField(),
            "c": models.CharField(max_length=9),
        }

    pair = Pair(*(model_of(name, fields()) for name in ("text", named("text"))))
    for model in pair.models:
        edit("create_model", model)
        table = connection.ops.quote_name(model._meta.db_table)
        run(f"INSERT INTO {table} (a, b, c) VALUES (1, 2, 'c'), (3, 4, 'd')")
    pair.compare()
    return pair


@pytest.fixture
def tag_of(tags):
    """
    Return a function that returns the model "tag" of the same database as a model.
    """
    return lambda model: tags[TableName.of(model._meta.db_table).database or database()]


ADDED = {
    "number": lambda tag: models.IntegerField(default=5, db_comment="5%"),
    "long": lambda tag: models.TextField(default="5%"),
    "indexed": lambda tag: models.IntegerField(db_index=True, null=True),
    "unique": lambda tag: models.IntegerField(unique=True, null=True),
    "positive": lambda tag: models.PositiveIntegerField(null=True),
    "key": lambda tag: models.ForeignKey(tag, models.CASCADE, null=True),
    "one": lambda tag: models.OneToOneField(tag, models.CASCADE, null=True),
}


@pytest.mark.parametrize("kind", ADDED)
def test_add_and_remove_a_field(pair, tag_of, check_constraints, kind):
    fields = {}

    def field(model):
        if model not in fields:
            fields[model] = field_of(model, "x", ADDED[kind](tag_of(model)))
        return fields[model]

    before = pair.compare()
    pair.edit("add_field", field)
    assert pair.compare() != before
    pair.edit("remove_field", field)
    assert pair.compare() == before


@pytest.mark.parametrize(
    "new",
    [
        lambda tag: models.BigIntegerField(null=True),
        lambda tag: models.IntegerField(unique=True),
        lambda tag: models.IntegerField(db_index=True),
        lambda tag: models.PositiveIntegerField(),
        lambda tag: models.IntegerField(db_column="other"),
        lambda tag: models.IntegerField(db_comment="50%"),
        lambda tag: models.ForeignKey(tag, models.CASCADE, db_column="a"),
    ],
)
def test_alter_a_field(pair, tag_of, check_constraints, monkeypatch, new):
    # TiDB 5 refuses changes of columns that may lose data, so allow the rebuild.
    allow(monkeypatch, True)
    for tag in map(tag_of, pair.models):
        table = connection.ops.quote_name(tag._meta.db_table)
        run(f"INSERT INTO {table} VALUES (1), (3)")

    def field(model):
        return field_of(model, "a", new(tag_of(model)))

    def old(model):
        return model._meta.get_field("a")

    before = pair.compare()
    pair.edit("alter_field", old, field)
    assert pair.compare() != before
    pair.edit("alter_field", field, old)
    # The removed foreign key leaves its index.
    if not isinstance(field(pair.models[0]), models.ForeignKey):
        assert pair.compare() == before


def test_indexes_and_constraints(pair, check_constraints):
    before = pair.compare()
    index = models.Index(fields=["a"], name="one_index")
    renamed = models.Index(fields=["a"], name="another")
    pair.edit("add_index", index)
    pair.edit("rename_index", index, renamed)
    assert "KEY `another` (`a`)" in pair.compare()
    pair.edit("remove_index", renamed)
    assert pair.compare() == before
    for constraint in (
        models.CheckConstraint(**{check: models.Q(a__gt=0)}, name="a_check"),
        models.UniqueConstraint(fields=["a", "b"], name="a_unique"),
    ):
        pair.edit("add_constraint", constraint)
        assert (constraint.name in pair.compare()) == (
            check_constraints or constraint.name != "a_check"
        )
        pair.edit("remove_constraint", constraint)
        assert pair.compare() == before
    pair.edit("alter_unique_together", [], [("a", "b")])
    assert "UNIQUE KEY `text_a_b_" in pair.compare()
    pair.edit("alter_unique_together", [("a", "b")], [])
    assert pair.compare() == before


def test_comment(pair):
    pair.edit("alter_db_table_comment", "", "50% '`")
    assert "COMMENT='50% ''`'" in pair.compare()


def test_everything_in_create_table(named, tags, check_constraints):
    pair = []
    for name, tag in zip(("text", named("text")), tags.values(), strict=True):
        model = model_of(
            name,
            {
                "tag": models.ForeignKey(tag, models.CASCADE),
                "parent": models.ForeignKey("self", models.CASCADE, null=True),
                "a": models.PositiveIntegerField(db_index=True),
                "b": models.IntegerField(unique=True),
            },
            unique_together=[("a", "b")],
            db_table_comment="50%",
            constraints=[
                models.CheckConstraint(**{check: models.Q(a__gt=0)}, name="a_check")
            ],
        )
        edit("create_model", model)
        pair.append(model)
    text = Pair(*pair).compare()
    assert ("FOREIGN KEY" in text) == connection.features.supports_foreign_keys
    for model in pair:
        edit("delete_model", model)
    assert run(f"SHOW TABLES FROM `{OTHER}`") == (("tag",),)


def test_rename_a_table(named):
    model = model_of(named("text"), {"a": models.IntegerField(unique=True)})
    edit("create_model", model)
    edit("alter_db_table", model, named("text"), named("new"))
    assert run(f"SHOW TABLES FROM `{OTHER}`") == (("new",),)


def test_many_to_many(named, tags):
    # Django appends the field's name after the last backtick of the quoted form.
    if named("x").startswith("`"):
        pytest.skip("Django makes no name of a table of it: by design.")
    model = model_of(named("text"), {})
    edit("create_model", model)
    field = models.ManyToManyField(tags[OTHER])
    field.contribute_to_class(model, "tags")
    edit("add_field", model, field)
    through = definition(f"`{OTHER}`.text_tags")
    assert "UNIQUE KEY `text_tags_textthere_id_tagthere_id_" in through
    if connection.features.supports_foreign_keys:
        assert through.count("FOREIGN KEY") == 2
    edit("remove_field", model, field)
    assert run(f"SHOW TABLES FROM `{OTHER}`") == (("tag",), ("text",))


# -- From one database to the other


@pytest.mark.works("foreign-key")
@pytest.mark.parametrize("source", ["here", "there"])
def test_foreign_key_to_the_other_database(named, tags, source):
    target = tags[OTHER if source == "here" else database()]
    # A table "tag" is in both databases. Only the target has the row that the key
    # needs.
    run(f"INSERT INTO {connection.ops.quote_name(target._meta.db_table)} VALUES (1)")
    name = "text" if source == "here" else named("text")
    table = connection.ops.quote_name(name)

    def refuses_others():
        run(f"INSERT INTO {table} (tag_id) VALUES (1)")
        with pytest.raises(IntegrityError):
            run(f"INSERT INTO {table} (tag_id) VALUES (2)")
        run(f"DELETE FROM {table}")

    model = model_of(name, {})
    edit("create_model", model)
    before = without_counter(table)
    field = field_of(model, "tag", models.ForeignKey(target, models.CASCADE, null=True))
    edit("add_field", model, field)
    refuses_others()
    # Remove the foreign key, and then add it again.
    free = models.ForeignKey(target, models.CASCADE, null=True, db_constraint=False)
    edit("alter_field", model, field, field_of(model, "tag", free))
    run(f"INSERT INTO {table} (tag_id) VALUES (2)", f"DELETE FROM {table}")
    edit("alter_field", model, field_of(model, "tag", free), field)
    refuses_others()
    edit("remove_field", model, field)
    assert without_counter(table) == before
    edit("delete_model", model)
    # Create the table again, now with the foreign key in CREATE TABLE.
    again = models.ForeignKey(target, models.CASCADE, db_column="tag_id")
    with isolate_apps("tests.core"):
        model = model_of(name, {"again": again})
    edit("create_model", model)
    refuses_others()


@pytest.mark.works("foreign-key")
def test_foreign_key_to_a_table_that_is_still_to_come(named):
    there = model_of(named("later"), {})
    fields = {"later": models.ForeignKey(there, models.CASCADE)}
    for name in ("text", named("text")):
        model = model_of(name, fields)
        with (
            pytest.raises(DatabaseError, match=r"'text'.*later"),
            connection.schema_editor() as editor,
        ):
            editor.create_model(model)
        edit("delete_model", model)
        with connection.schema_editor() as editor:
            editor.create_model(model)
            editor.create_model(there)
        for made in (model, there):
            edit("delete_model", made)
        fields = {"later": models.ForeignKey(there, models.CASCADE)}


# -- Operations with several steps


def test_undo(named):
    model = model_of(named("text"), {"a": models.IntegerField()})
    edit("create_model", model)
    table = connection.ops.quote_name(named("text"))
    run(f"INSERT INTO {table} (a) VALUES (1), (1)")
    before = definition(table)
    new = models.IntegerField(unique=True, db_comment="x", db_column="new")
    with pytest.raises(IntegrityError, match="1062"):
        edit(
            "alter_field", model, model._meta.get_field("a"), field_of(model, "a", new)
        )
    assert definition(table) == before
    with pytest.raises(IntegrityError, match="1062"):
        edit(
            "add_field",
            model,
            field_of(model, "b", models.IntegerField(default=1, unique=True)),
        )
    assert definition(table) == before


@pytest.fixture
def shop(named, check_constraints):
    """
    Create a table with more rows than a batch of the copy, and the tables around it.
    """
    foreign = connection.features.supports_foreign_keys

    def key(name, column, target):
        return (
            f", CONSTRAINT {name} FOREIGN KEY ({column}) REFERENCES {target} (id)"
            if foreign
            else ""
        )

    other = f"`{OTHER}`"
    run(
        "CREATE TABLE tag (id INT PRIMARY KEY)",
        f"CREATE TABLE {other}.tag (id INT PRIMARY KEY)",
        "INSERT INTO tag VALUES (1)",
        f"INSERT INTO {other}.tag VALUES (1)",
        f"CREATE TABLE {other}.shop (id INT PRIMARY KEY, near INT, far INT, shop INT, "
        "`50%` INT"
        + key("near", "near", f"{other}.tag")
        + key("far", "far", f"`{database()}`.tag")
        + key("self", "shop", f"{other}.shop")
        + (", CONSTRAINT positive CHECK (`50%` > 0)" if check_constraints else "")
        + ") COMMENT '50%'",
        f"INSERT INTO {other}.shop VALUES (1, 1, 1, NULL, 1), (2, 1, 1, 1, 1), "
        "(3, NULL, NULL, 3, 2), (4, NULL, NULL, NULL, NULL), (9, 1, 1, 1, 9)",
        # This table has the same name, but must stay as it is.
        "CREATE TABLE shop (id INT PRIMARY KEY)",
        f"CREATE TABLE {other}.item (shop INT{key('item', 'shop', f'{other}.shop')})",
        f"CREATE TABLE item (shop INT{key('item', 'shop', f'{other}.shop')})",
        "CREATE TABLE innocent (shop INT" + key("innocent", "shop", "shop") + ")",
    )
    model = model_of(named("shop"), {"id": models.IntegerField(primary_key=True)})

    def migrate():
        # Every server refuses to make a primary key AUTO_INCREMENT, so the table is
        # rebuilt.
        new = models.AutoField(primary_key=True)
        edit(
            "alter_field",
            model,
            model._meta.get_field("id"),
            field_of(model, "id", new),
        )

    return migrate


def shop_state():
    tables = [f"`{OTHER}`.shop", f"`{OTHER}`.item", "shop", "item", "innocent"]
    return (
        # Servers differ in the order of the keys, and TiDB 7 writes some names of
        # databases in lower case.
        [
            sorted(without_counter(table).lower().replace(",\n", "\n").splitlines())
            for table in tables
        ],
        run(f"SELECT * FROM {tables[0]} ORDER BY id"),
        run(f"SHOW TABLES FROM `{OTHER}`"),
    )


def allow(monkeypatch, value):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "rebuild_tables", value)


@pytest.mark.parametrize("entry", ["open", "quoted", None])
def test_rebuild(shop, named, monkeypatch, entry):
    monkeypatch.setattr(rebuild, "BATCH", 2)
    before = shop_state()
    # The entry "shop" means the table in the current database, not the table in the
    # other one.
    allow(monkeypatch, ["shop"])
    with pytest.raises(DatabaseError, match="rebuild_tables") as raised:
        shop()
    assert repr(f"{OTHER}`.`shop") in str(raised.value)
    assert shop_state() == before
    forms = {"open": [f"{OTHER}`.`shop"], "quoted": [f"`{OTHER}`.`shop`"], None: True}
    allow(monkeypatch, forms[entry])
    shop()
    assert "AUTO_INCREMENT" in definition(f"`{OTHER}`.shop")
    assert shop_state() == before
    if connection.features.supports_foreign_keys:
        for table in (f"`{OTHER}`.item", "item"):
            run(f"INSERT INTO {table} VALUES (9)")
            with pytest.raises(IntegrityError):
                run(f"INSERT INTO {table} VALUES (8)")
            run(f"DELETE FROM {table}")
        with pytest.raises(IntegrityError):
            run(f"INSERT INTO `{OTHER}`.shop (far) VALUES (2)")


class Fault(DatabaseError):
    pass


@pytest.mark.parametrize("killed", [False, True])
def test_rebuild_with_a_fault_at_every_step(shop, named, monkeypatch, killed):
    if not named("x").startswith("`"):
        pytest.skip("One form is enough here: by design.")
    allow(monkeypatch, True)
    before = shop_state()
    real = rebuild._Tables.run
    for number in range(1, 40):
        done = []

        def faulty(self, sql, number=number, done=done):
            done.append(sql)
            if len(done) == number:
                raise Fault(1105, f"fault at {sql}")
            real(self, sql)

        with monkeypatch.context() as patch:
            patch.setattr(rebuild._Tables, "run", faulty)
            if killed:
                patch.setattr(rebuild._Tables, "go_back", lambda self: None)
            try:
                shop()
            except Fault:
                pass
            else:
                break
        shop()
        assert shop_state() == before
        run(
            "SET tidb_allow_remove_auto_inc = 1",
            f"ALTER TABLE `{OTHER}`.shop MODIFY id INT NOT NULL",
            "SET tidb_allow_remove_auto_inc = 0",
        )
    else:
        pytest.fail("The rebuild does not end.")
    assert shop_state() == before


@pytest.mark.works("foreign-key")
def test_rebuild_of_a_table_that_the_other_database_refers_to(monkeypatch):
    allow(monkeypatch, True)
    run(
        "CREATE TABLE text (id INT PRIMARY KEY)",
        "INSERT INTO text VALUES (1)",
        f"CREATE TABLE `{OTHER}`.item (id INT, CONSTRAINT item_text "
        f"FOREIGN KEY (id) REFERENCES `{database()}`.text (id) ON DELETE CASCADE)",
        f"INSERT INTO `{OTHER}`.item VALUES (1)",
    )
    before = definition(f"`{OTHER}`.item")
    edit("execute", "ALTER TABLE `text` MODIFY `id` int AUTO_INCREMENT NOT NULL", None)
    assert definition(f"`{OTHER}`.item") == before
    with pytest.raises(IntegrityError):
        run(f"INSERT INTO `{OTHER}`.item VALUES (2)")
    run("DELETE FROM text")
    assert run(f"SELECT * FROM `{OTHER}`.item") == ()


def test_name_that_django_would_not_quote():
    with pytest.raises(ValueError, match=r"'a`b'.*twice.*other`\.`name"):
        TableName.of("a`b")
    assert TableName.of("a``b") == TableName("a`b")
