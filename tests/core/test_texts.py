"""
Test texts in the statements of the schema editor.

The server has to store a comment, a default, an expression or a name exactly as the
model has it, whichever characters the text contains.
"""

from __future__ import annotations

import copy
from datetime import date, timedelta

import django
import pytest
from django.db import DatabaseError, NotSupportedError, connection, models
from django.db.models import Q, Value
from django.db.models.functions import Concat
from django.test.utils import isolate_apps
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from django_tidb import rebuild
from django_tidb.known_issues import KNOWN_ISSUES

from .models import check

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.thorough]

HAS_DB_DEFAULT = django.VERSION >= (5, 0)

EVERYTHING = "%s%%%'\"`\\\n😀 \\' %"


def params(**texts):
    escaped = pytest.mark.works("show-create-backslash")
    return [
        # SHOW CREATE TABLE writes these characters with a backslash.
        pytest.param(text, id=name, marks=[escaped] * bool({*"\\\n\r\0"} & {*text}))
        for name, text in texts.items()
    ]


TEXTS = params(
    percent="50%",
    two_percent_signs="100%%",
    formats="%s %(column)s % d%i",
    quotes='it\'s "quoted"',
    backtick="a`b",
    syntax="a, (b) -- c /* d */ # e; f",
    line_break="line\r\nbreak\n) \t",
    backslash="back\\slash\\",
    nul="Dürüm \0 😀",
    everything=EVERYTHING,
)


# The two ways in which `operate` executes the statements.
SENT, PRINTED = "sent", "printed"

each_text = pytest.mark.parametrize("text", TEXTS)
each_text_and_way = pytest.mark.parametrize(
    ("text", "operate"),
    [
        *(pytest.param(*t.values, SENT, id=t.id, marks=t.marks) for t in TEXTS),
        pytest.param(EVERYTHING, PRINTED, id=PRINTED, marks=TEXTS[-1].marks),
    ],
    indirect=["operate"],
)


# -- Tables


def run(*statements):
    """Send SQL without parameters, and return the rows of the last statement."""
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql, None)
        return cursor.fetchall()


@pytest.fixture(autouse=True)
def drops():
    before = {name for (name,) in run("SHOW TABLES")}
    with isolate_apps("tests.core"):
        yield
    for (name,) in run("SHOW TABLES"):
        if name not in before:
            run(f"DROP TABLE {quote(written(name))}")


@pytest.fixture
def operate(request):
    """
    Return a function that calls methods of a schema editor. The schema editor either
    sends the statements, or prints them like sqlmigrate; printed statements are then
    executed.
    """

    def operate(*calls):
        printed = request.param == PRINTED
        with connection.schema_editor(collect_sql=printed) as editor:
            for name, *args in calls:
                getattr(editor, name)(*args)
        for sql in editor.collected_sql if printed else ():
            if sql.startswith("--"):
                # A comment in the output of sqlmigrate is one line.
                assert len(sql.splitlines()) == 1
            else:
                run(sql)

    return operate


def quote(name):
    return f"`{name}`"


def written(name):
    """Return a name as Django's options take it."""
    return name.replace("`", "``")


def in_name(text):
    """
    Return a text as a part of names, without NUL, which the server refuses in names.
    """
    return written(text.replace("\0", "").strip())


def plain(name):
    """Return a name as the server's tables of metadata show it."""
    return name.replace("``", "`")


def literal(text):
    """Return a text as an SQL literal, escaped without the driver."""
    escapes = {"\\": "\\\\", "'": "''", "\n": "\\n", "\r": "\\r", "\0": "\\0"}
    return "'{}'".format("".join(escapes.get(char, char) for char in text))


def model_of(table, fields, **meta):
    meta = type("Meta", (), {"app_label": "core", "db_table": table, **meta})
    namespace = {"__module__": __name__, "Meta": meta, **fields}
    return type("Text", (models.Model,), namespace)


def base_fields(**more):
    return {
        "id": models.IntegerField(primary_key=True),
        "base": models.CharField(max_length=9),
        "seven": models.IntegerField(),
        **more,
    }


def insert(table, number, **values):
    names = ", ".join(map(quote, ("id", "base", "seven", *values)))
    texts = ", ".join([str(number), "'b'", "7", *values.values()])
    run(f"INSERT INTO {quote(table)} ({names}) VALUES ({texts})")


def column(table, name):
    """Return the values of a column in all rows."""
    rows = run(f"SELECT {quote(name)} FROM {quote(table)} ORDER BY id")
    return [value for (value,) in rows]


def comments(table):
    """Return the comment of a table and the comments of its columns."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_comment FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = %s",
            [plain(table)],
        )
        ((comment,),) = cursor.fetchall()
        cursor.execute(
            "SELECT column_name, column_comment FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND table_name = %s",
            [plain(table)],
        )
        return comment, dict(cursor.fetchall())


def keys(table):
    """Return the columns and expressions of each index."""
    found = {}
    for row in run(f"SHOW INDEX FROM {quote(table)}"):
        found.setdefault(row[2], []).append(row[4] if row[4] != "NULL" else row[14])
    return found


def checks(table):
    """Return the names of the CHECK constraints."""
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, table)
    return [name for name, info in constraints.items() if info["check"]]


# -- Columns


def kinds(text):
    """
    Yield the uses of a text in a column. Each has a name, a function that makes the
    field, the field's value in a row that exists when the field is added, and its value
    in a row that is inserted later.
    """
    yield "no", lambda **o: models.CharField(null=True, **o), None, None
    yield "once", lambda **o: models.CharField(null=True, default=text, **o), text, None
    # These columns are added without a default, and then filled by an UPDATE.
    yield "long", lambda **o: models.TextField(null=True, default=text), text, None
    data = text.encode()
    yield "data", lambda **o: models.BinaryField(null=True, default=data), data, None
    if not HAS_DB_DEFAULT:
        return
    yield "constant", lambda **o: models.CharField(db_default=text, **o), text, text
    two = Concat(Value(text), Value("%"))
    yield (
        "expression",
        lambda **o: models.CharField(db_default=two, **o),
        f"{text}%",
        f"{text}%",
    )
    yield (
        "generated",
        lambda **o: models.GeneratedField(
            expression=Concat("base", Value(text)),
            output_field=models.CharField(**o),
            db_persist=False,
        ),
        f"b{text}",
        f"b{text}",
    )
    # Django doubles the percent sign of this operator, but there is no parameter.
    yield (
        "modulo",
        lambda **o: models.GeneratedField(
            expression=models.F("seven") % models.F("id"),
            output_field=models.IntegerField(),
            db_persist=False,
        ),
        0,
        1,
    )


def fields_of(text, *, in_columns="", comment=""):
    fields = {}
    for name, make, _, _ in kinds(text):
        field = make(max_length=60)
        field.db_comment = comment or None
        field.db_column = f"{name} {in_columns}".strip()
        field.set_attributes_from_name(name)
        fields[name] = field
    return fields


def altered(field, **changes):
    new = copy.copy(field)
    for cached in ("cached_col", "_db_default_expression", "_get_default"):
        new.__dict__.pop(cached, None)
    new.__dict__.update(changes)
    new.set_attributes_from_name(field.name)
    return new


def expect(table, text, fields, *, later):
    """
    Check the last row, which was inserted before the fields were added, or `later`.
    """
    for name, _, before, after in kinds(text):
        if name in fields:
            value = column(table, fields[name].column)[-1]
            assert value == (after if later else before), name


# -- The texts that the server holds


@each_text_and_way
def test_create(text, operate, check_constraints):
    name = in_name(text)
    table = f"text {name}"
    fields = fields_of(text, in_columns=name, comment=text)
    code = models.CharField(max_length=60, db_column=f"code {name}")
    # Django replaces %(class)s in the names of class Meta, so double the percent signs.
    in_meta = name.replace("%", "%%")
    model = model_of(
        table,
        base_fields(code=code, **fields),
        db_table_comment=text,
        unique_together=[("code", "base")],
        indexes=[models.Index(fields=["code", "no"], name=f"index {in_meta}")],
        constraints=[
            models.CheckConstraint(**{check: ~Q(code=text)}, name=f"check {in_meta}"),
            models.UniqueConstraint(fields=["code", "seven"], name=f"uniq {in_meta}"),
        ],
    )
    operate(("create_model", model))
    comment, of_columns = comments(table)
    assert comment == text
    for field in fields.values():
        assert of_columns[plain(field.column)] == text
    found = keys(table)
    assert found[f"index {plain(name)}"] == [plain(code.column), f"no {plain(name)}"]
    assert found[f"uniq {plain(name)}"] == [plain(code.column), "seven"]
    assert [plain(code.column), "base"] in found.values()
    insert(table, 3, **{code.column: "'c'"})
    expect(table, text, fields, later=True)
    if check_constraints:
        with pytest.raises(DatabaseError, match="3819"):
            insert(table, 4, **{code.column: literal(text)})


# In most cases the text is in the value, the name and the comment of a column. To show
# which of them causes a failure, there are also cases with the text in the value alone,
# in the value and the name, and in the value and the comment.
@pytest.mark.parametrize(
    ("text", "named", "commented", "operate"),
    [
        *(pytest.param(*t.values, 1, 1, SENT, id=t.id, marks=t.marks) for t in TEXTS),
        *(
            pytest.param(EVERYTHING, *rest, id=name, marks=TEXTS[-1].marks)
            for name, *rest in (
                (PRINTED, 1, 1, PRINTED),
                ("alone", 0, 0, SENT),
                ("named", 1, 0, SENT),
                ("commented", 0, 1, SENT),
            )
        ),
    ],
    indirect=["operate"],
)
def test_add_alter_and_remove(text, named, commented, operate):
    name = in_name(text) if named else ""
    comment = text if commented else ""
    table = f"text {name}".strip()
    model = model_of(table, base_fields())
    operate(("create_model", model))
    insert(table, 1)
    fields = fields_of(text, in_columns=name, comment=comment)
    for attribute, field in fields.items():
        field.contribute_to_class(model, attribute)
        operate(("add_field", model, field))
    expect(table, text, fields, later=False)
    insert(table, 3)
    expect(table, text, fields, later=True)
    of_columns = comments(table)[1]
    for field in fields.values():
        assert of_columns[plain(field.column)] == comment

    # Change the type: MODIFY repeats the whole definition of the column.
    for kind in fields.keys() & {"no", "constant", "expression"}:
        new = altered(fields[kind], max_length=61)
        operate(("alter_field", model, fields[kind], new))
        fields[kind] = new
    insert(table, 6)
    expect(table, text, fields, later=True)

    # Add NOT NULL, with a value for the rows in which the column is NULL.
    changes = [{"default": text}, {"db_default": text}][: 1 + HAS_DB_DEFAULT]
    if "`" in name:
        # MODIFY queries these rows, and fails with the known issue "modify-backtick".
        changes = []
    for change in changes:
        new = altered(fields["no"], null=False, **change)
        run(f"UPDATE {quote(table)} SET {quote(new.column)} = NULL")
        operate(("alter_field", model, fields["no"], new))
        assert column(table, new.column) == [text] * 3
        operate(("alter_field", model, new, fields["no"]))

    # Change the comment and the name of the column, and then drop the column.
    for kind in fields.keys() & {"no", "constant", "generated"}:
        old = fields[kind]
        new = altered(old, db_comment=f"{text}2", db_column=f"other {old.column}")
        operate(("alter_field", model, old, new))
        of_columns = comments(table)[1]
        assert of_columns[plain(new.column)] == f"{text}2"
        assert plain(old.column) not in of_columns
        operate(("remove_field", model, new))
        assert plain(new.column) not in comments(table)[1]


@pytest.mark.works("default-json-functions")
@pytest.mark.skipif(not HAS_DB_DEFAULT, reason="Django 5.0 brought db_default.")
@each_text_and_way
def test_json_default(text, operate):
    field = models.JSONField(db_default={text: [text]}, db_comment=text)
    operate(("create_model", model_of("text", base_fields(json=field))))
    insert("text", 1)
    ((expected,),) = run(
        f"SELECT JSON_OBJECT({literal(text)}, JSON_ARRAY({literal(text)}))"
    )
    assert column("text", "json") == [expected]


@each_text_and_way
def test_tables(text, operate):
    table, new = f"text {in_name(text)}", f"{in_name(text)} text"
    model = model_of(table, base_fields())
    operate(("create_model", model))
    operate(("alter_db_table_comment", model, "", text))
    assert comments(table)[0] == text
    operate(("alter_db_table", model, table, new))
    model._meta.db_table = new
    assert comments(new)[0] == text
    operate(("delete_model", model))
    assert plain(new) not in [name for (name,) in run("SHOW TABLES")]


@pytest.mark.parametrize("together", [False, True])
@each_text_and_way
def test_indexes_and_constraints(text, together, operate, check_constraints):
    name = in_name(text)
    # Leave out the backtick, because of the known issue "check-backtick".
    table = f"text {name}".replace("`", "")
    code = models.CharField(max_length=60, db_column=f"code {name}")
    model = model_of(table, base_fields(code=code))
    index = models.Index(fields=["code", "seven"], name=f"index {name}")
    unique = models.UniqueConstraint(fields=["code", "seven"], name=f"uniq {name}")
    constraint = models.CheckConstraint(**{check: ~Q(code=text)}, name=f"check {name}")
    calls = [
        ("create_model", model),
        ("add_index", model, index),
        ("add_constraint", model, unique),
        ("add_constraint", model, constraint),
        ("alter_unique_together", model, [], [("code", "base")]),
        ("alter_index_together", model, [], [("base", "code")]),
    ]
    # If the calls come together, the keys become part of CREATE TABLE.
    for some in [calls] if together else [[call] for call in calls]:
        operate(*some)
    found = keys(table)
    assert found[f"index {plain(name)}"] == [plain(code.column), "seven"]
    assert found[f"uniq {plain(name)}"] == [plain(code.column), "seven"]
    assert [plain(code.column), "base"] in found.values()
    assert ["base", plain(code.column)] in found.values()
    assert checks(table) == [f"check {plain(name)}"] * check_constraints
    insert(table, 1, **{code.column: "'c'"})
    if check_constraints:
        with pytest.raises(DatabaseError, match="3819"):
            insert(table, 2, **{code.column: literal(text)})

    renamed = models.Index(fields=["code", "seven"], name=f"{name} index")
    operate(("rename_index", model, index, renamed))
    assert f"{plain(name)} index" in keys(table)
    operate(("remove_index", model, renamed))
    operate(("remove_constraint", model, unique))
    operate(("remove_constraint", model, constraint))
    operate(("alter_unique_together", model, [("code", "base")], []))
    operate(("alter_index_together", model, [("base", "code")], []))
    assert list(keys(table)) == ["PRIMARY"]
    assert not checks(table)


@each_text_and_way
def test_fields_with_keys(text, operate, check_constraints):
    # Django derives these names and conditions from the names of the table and column.
    name = in_name(text)
    table = f"text {name}".replace("`", "")
    model = model_of(table, base_fields())
    operate(("create_model", model))
    column = f"code {name}"

    def field(kind, **options):
        field = kind(db_column=column, null=True, **options)
        field.set_attributes_from_name("number")
        field.model = model
        return field

    indexed = field(models.PositiveIntegerField, db_index=True)
    unique = field(models.PositiveIntegerField, unique=True)
    signed = field(models.IntegerField)
    operate(("add_field", model, indexed))
    assert [plain(column)] in keys(table).values()
    assert len(checks(table)) == check_constraints
    operate(("alter_field", model, indexed, unique))
    assert [plain(column)] in keys(table).values()
    operate(("alter_field", model, unique, signed))
    assert [plain(column)] not in keys(table).values()
    assert not checks(table)
    operate(("alter_field", model, signed, indexed))
    assert len(checks(table)) == check_constraints
    operate(("remove_field", model, indexed))
    assert plain(column) not in comments(table)[1]


@pytest.mark.works("expression-index")
@each_text_and_way
def test_expressions_of_indexes(text, operate):
    name = in_name(text)
    table = f"text {name}"
    code = models.CharField(max_length=60, db_column=f"code {name}")
    model = model_of(table, base_fields(code=code))
    operate(("create_model", model))
    equal = models.ExpressionWrapper(Q(code=text), models.BooleanField())
    seven = models.ExpressionWrapper(models.F("seven") % 4, models.IntegerField())
    index = models.Index(seven, equal, name=f"index {name}")
    unique = models.UniqueConstraint(equal, models.F("id"), name=f"uniq {name}")
    operate(("add_index", model, index))
    operate(("add_constraint", model, unique))
    run(
        f"CREATE TABLE expected (id INT, seven INT, {quote(code.column)} VARCHAR(60), "
        f"KEY i (((seven % 4)), ({quote(code.column)} = {literal(text)})), "
        f"KEY u (({quote(code.column)} = {literal(text)}), id))"
    )
    found, expected = keys(table), keys("expected")
    assert found[f"index {plain(name)}"] == expected["i"]
    assert found[f"uniq {plain(name)}"] == expected["u"]


@each_text
def test_rebuild(text, monkeypatch, check_constraints):
    # The rows are copied by a key whose name contains the text, or by TiDB's row ids.
    monkeypatch.setattr(rebuild, "BATCH", 2)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "rebuild_tables", True)
    name = in_name(text)
    table = f"text {name}".replace("`", "")
    fields = base_fields(**fields_of(text, in_columns=name, comment=text))
    fields["id"].db_column = f"id {name}"
    code = models.CharField(max_length=60, unique=True, db_column=f"code {name}")
    constraint = models.CheckConstraint(**{check: ~Q(code=text)}, name="check_text")
    model = model_of(
        table,
        {**fields, "code": code},
        db_table_comment=text,
        constraints=[constraint],
    )
    with connection.schema_editor() as editor:
        editor.create_model(model)
    names = ", ".join(map(quote, (f"id {name}", "base", "seven", code.column)))
    for number in range(1, 6):
        run(f"INSERT INTO {quote(table)} ({names}) VALUES ({number}, 'b', 7, {number})")
    before = rebuild.read_definition(connection, table)
    rows = run(f"SELECT * FROM {quote(table)} ORDER BY {quote(f'id {name}')}")
    for clauses in (
        "DROP PRIMARY KEY",
        f"ADD COLUMN {quote(f'stored {name}')} INT AS (seven % 4) STORED",
        f"ADD CONSTRAINT {quote(name)} PRIMARY KEY ({quote(f'id {name}')}) "
        "/*T![clustered_index] CLUSTERED */",
        f"DROP COLUMN {quote(f'stored {name}')}",
    ):
        with connection.schema_editor() as editor:
            editor.execute(f"ALTER TABLE {quote(table)} {clauses}", None)
    assert rebuild.read_definition(connection, table) == before
    assert run(f"SELECT * FROM {quote(table)} ORDER BY {quote(f'id {name}')}") == rows


def test_table_whose_checks_could_not_be_added_again(check_constraints):
    if not KNOWN_ISSUES["check-backtick"].affects(connection.tidb_version):
        return
    run("CREATE TABLE `a``b` (id INT PRIMARY KEY, CHECK (id > 0))")
    with (
        pytest.raises(NotSupportedError, match=r"'a`b'.*backtick"),
        connection.schema_editor() as editor,
    ):
        editor.execute("ALTER TABLE `a``b` DROP PRIMARY KEY", None)
    assert run("SHOW TABLES LIKE 'a`b%'") == (("a`b",),)


@each_text
def test_copy_of_a_test_database(text, monkeypatch):
    monkeypatch.setattr(rebuild, "BATCH", 2)
    name = in_name(text)
    table = f"text {name}"
    model = model_of(
        table,
        base_fields(**fields_of(text, in_columns=name, comment=text)),
        db_table_comment=text,
    )
    with connection.schema_editor() as editor:
        editor.create_model(model)
    for number in range(1, 6):
        insert(table, number)
    creation = connection.creation
    other = creation.get_test_db_clone_settings("texts")["NAME"]
    creation.clone_test_db("texts", verbosity=0)
    try:
        qualified = f"{quote(other)}.{quote(table)}"
        for statement in ("SHOW CREATE TABLE {}", "SELECT * FROM {} ORDER BY id"):
            assert run(statement.format(qualified)) == run(
                statement.format(quote(table))
            )
    finally:
        run(f"DROP DATABASE {quote(other)}")


def test_queries_of_names_with_percent_signs():
    model = model_of(
        "text %",
        {
            "id": models.IntegerField(primary_key=True, db_column="id %s"),
            "seven": models.IntegerField(db_column="%%"),
        },
    )
    with connection.schema_editor() as editor:
        editor.create_model(model)
    run("INSERT INTO `text %` VALUES (1, 7), (2, 8)")
    assert list(model.objects.order_by("seven").values_list("seven")) == [(7,), (8,)]
    model.objects.filter(seven=8).update(seven=models.F("seven") % 3)
    assert model.objects.get(id=2).seven == 2
    model.objects.filter(seven__lt=3).delete()
    assert model.objects.count() == 1


class Size(models.TextChoices):
    SMALL = "50%'"


class Count(models.IntegerChoices):
    FEW = 3


@pytest.mark.parametrize("operate", [SENT, PRINTED], indirect=True)
@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (models.BooleanField, True, 1),
        (models.FloatField, 2.5, 2.5),
        (models.CharField, Size.SMALL, "50%'"),
        (models.IntegerField, Count.FEW, 3),
        (models.CharField, SafeString("50%'"), "50%'"),
        (models.CharField, gettext_lazy("50%'"), "50%'"),
        (models.DateField, date(2026, 1, 2), date(2026, 1, 2)),
        (models.DurationField, timedelta(1, 2), 86_402_000_000),
        (models.JSONField, ["50%'"], '["50%\'"]'),
    ],
)
def test_default_that_is_no_plain_text(kind, value, expected, operate):
    # Both ways of adding the column write the default into the statement.
    model = model_of("text", base_fields())
    operate(("create_model", model))
    insert("text", 1)
    field = kind(
        default=value, **({"max_length": 9} if kind is models.CharField else {})
    )
    field.contribute_to_class(model, "value")
    operate(("add_field", model, field))
    assert column("text", "value") == [expected]
    nullable = altered(field, null=True)
    operate(("alter_field", model, field, nullable))
    insert("text", 2)
    operate(("alter_field", model, nullable, field))
    assert column("text", "value") == [expected] * 2


@pytest.mark.parametrize("operate", [SENT, PRINTED], indirect=True)
@pytest.mark.parametrize("value", [b"", b"50%'\\", b"\x00\xff"])
def test_bytes(value, operate, check_constraints):
    model = model_of("text", base_fields(data=models.BinaryField()))
    operate(("create_model", model))
    constraint = models.CheckConstraint(**{check: ~Q(data=value)}, name="text_data")
    operate(("add_constraint", model, constraint))
    insert("text", 1, data="x'61'")
    if check_constraints:
        with pytest.raises(DatabaseError, match="3819"):
            insert("text", 2, data=f"x'{value.hex()}'")


def test_sql_from_elsewhere_is_a_format():
    # RunPython and others call execute() without parameters or with params=None. Django
    # treats these two differently.
    run("CREATE TABLE text (a VARCHAR(9))")
    with connection.schema_editor() as editor:
        editor.execute("INSERT INTO text VALUES ('1%%')")
        editor.execute("INSERT INTO text VALUES ('2%%'), (%s)", ["3%"])
        editor.execute("INSERT INTO text VALUES ('4%%')", None)
    assert [text for (text,) in run("SELECT a FROM text ORDER BY a")] == [
        "1%",
        "2%",
        "3%",
        "4%%",
    ]
