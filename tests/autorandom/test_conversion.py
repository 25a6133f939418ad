from __future__ import annotations

import re

import pytest
from django.db import NotSupportedError, migrations, models
from django.db.migrations.state import ProjectState
from django.db.utils import DatabaseError, IntegrityError

from django_tidb_autorandom import BigAutoRandomField, allow_explicit_ids

from .utils import connection, show_create_table

COUNTER = 2**58 - 1
CASCADE = models.CASCADE
RANDOM = BigAutoRandomField(primary_key=True)


class History:
    """
    The models Author and Book, where a Book refers to an Author, changed by migrations.
    """

    def __init__(self, pk, **options):
        self.state = ProjectState()
        self.run(
            migrations.CreateModel(
                "Author",
                [
                    ("id", pk),
                    ("name", models.CharField(max_length=20)),
                    ("mentor", models.ForeignKey("self", CASCADE, null=True)),
                ],
                options=options,
            ),
            migrations.CreateModel(
                "Book",
                [
                    ("id", models.BigAutoField(primary_key=True)),
                    ("author", models.ForeignKey("Author", CASCADE)),
                    ("others", models.ManyToManyField("Author", related_name="+")),
                ],
            ),
        )

    def __getitem__(self, name):
        return self.state.apps.get_model("autorandom", name)

    def run(self, *operations, collect_sql=False):
        for operation in operations:
            after = self.state.clone()
            operation.state_forwards("autorandom", after)
            with connection.schema_editor(collect_sql=collect_sql) as editor:
                operation.database_forwards("autorandom", editor, self.state, after)
            if not collect_sql:
                self.state = after
        return editor.collected_sql if collect_sql else None

    def alter(self, field, name="id", **kwargs):
        return self.run(migrations.AlterField("Author", name, field), **kwargs)

    def drop(self):
        with connection.cursor() as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            for table in connection.introspection.table_names(cursor):
                if re.match(r"(?i)autorandom_(author|book)", table):
                    cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}")
            cursor.execute("SET foreign_key_checks = 1")


@pytest.fixture
def history(transactional_db):
    made = []

    def make(pk, **options):
        made.append(History(pk, **options))
        return made[0]

    yield make
    for each in made:
        each.drop()


def fill(history):
    Author, Book = history["Author"], history["Book"]
    ann = Author.objects.create(name="ann")
    bob = Author.objects.create(name="bob", mentor=ann)
    book = Book.objects.create(author=bob)
    book.others.add(ann, bob)
    return ann.pk, bob.pk


def check_rows(history, ann, bob):
    """Check that the old rows are kept, and that new rows can refer to old and new."""
    Author, Book = history["Author"], history["Book"]
    rows = set(Author.objects.values_list("pk", "name", "mentor"))
    assert rows == {(ann, "ann", None), (bob, "bob", ann)}
    book = Book.objects.get()
    assert book.author_id == bob
    assert {author.pk for author in book.others.all()} == {ann, bob}
    new = [Author.objects.create(name="new", mentor_id=bob) for _ in range(30)]
    Book.objects.create(author=new[0]).others.add(new[1])
    assert Author.objects.count() == 32
    if connection.features.supports_foreign_keys:
        for model, values in (
            (Author, {"mentor_id": 99}),
            (Book, {"author_id": 99}),
            (Book.others.through, {"author_id": 99, "book_id": book.pk}),
        ):
            with pytest.raises(IntegrityError):
                model.objects.create(**values)
    return new


def check(history, ann, bob):
    """
    Check the rows, and that the counters in new ids exceed the counters in old ids.
    """
    mask = 2 ** (63 - 10) - 1
    new = check_rows(history, ann, bob)
    assert min(author.pk & mask for author in new) > max(ann & mask, bob & mask)


def is_set():
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.tidb_allow_remove_auto_inc")
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize("cache", [None, 1, 50])
@pytest.mark.parametrize(
    "pk", [models.AutoField, models.SmallAutoField, models.BigAutoField]
)
def test_from_auto_increment(history, pk, cache):
    options = {"tidb_auto_id_cache": cache} if cache else {}
    project = history(pk(primary_key=True), **options)
    keys = fill(project)
    project.alter(BigAutoRandomField(primary_key=True))
    assert not is_set()
    assert "AUTO_RANDOM(5) */" in show_create_table(project["Author"])
    for name in ("Author", "Book"):
        create = show_create_table(project[name])
        assert re.search(r"`(mentor|author)_id` bigint", create)
    if pk is not models.BigAutoField:
        through = show_create_table(project["Book"].others.through)
        assert re.search(r"`author_id` bigint", through)
    check(project, *keys)


@pytest.mark.django_db(transaction=True)
def test_of_an_empty_table(history):
    project = history(models.AutoField(primary_key=True), tidb_auto_id_cache=1)
    project.alter(BigAutoRandomField(primary_key=True, shard_bits=10))
    assert project["Author"].objects.create(name="a").pk


def test_of_another_column_name(history):
    project = history(models.BigAutoField(primary_key=True))
    keys = fill(project)
    project.alter(BigAutoRandomField(primary_key=True, db_column="key"))
    assert "`key` bigint" in show_create_table(project["Author"])
    check(project, *keys)


@pytest.mark.one_server("The ids of another server can be smaller.")
def test_shard_bits_are_raised(history):
    project = history(BigAutoRandomField(primary_key=True, shard_bits=3))
    keys = fill(project)
    project.alter(BigAutoRandomField(primary_key=True, shard_bits=6, db_column="key"))
    assert "`key` bigint" in show_create_table(project["Author"])
    project.alter(BigAutoRandomField(primary_key=True, shard_bits=10, db_column="key"))
    assert "AUTO_RANDOM(10) */" in show_create_table(project["Author"])
    check(project, *keys)


def test_what_is_the_same_for_the_database(history):
    project = history(BigAutoRandomField(primary_key=True))
    field = BigAutoRandomField(primary_key=True, verbose_name="key")
    assert project.alter(field, collect_sql=True) == []


@pytest.mark.parametrize("pk", [models.AutoField, models.BigAutoField])
@pytest.mark.parametrize("cache", [1, 50])
def test_again_after_a_migration_that_ended_halfway(history, pk, cache):
    project = history(pk(primary_key=True), tidb_auto_id_cache=cache)
    keys = fill(project)
    before = project.state
    project.alter(RANDOM)
    project.state = before
    project.alter(RANDOM)
    check(project, *keys)


def test_sql(history):
    project = history(models.AutoField(primary_key=True), tidb_auto_id_cache=1)
    fill(project)
    sql = project.alter(BigAutoRandomField(primary_key=True), collect_sql=True)
    modify = sql.index(
        "ALTER TABLE `autorandom_author` MODIFY `id` bigint AUTO_INCREMENT NOT NULL;"
    )
    assert sql[-4:] == [
        "SET @@SESSION.tidb_allow_remove_auto_inc = 1;",
        "ALTER TABLE `autorandom_author` MODIFY `id` bigint AUTO_RANDOM(5) NOT NULL;",
        "SET @@SESSION.tidb_allow_remove_auto_inc = 0;",
        "ALTER TABLE `autorandom_author` AUTO_RANDOM_BASE = 3;",
    ]
    assert modify < len(sql) - 4
    # Nothing has been changed.
    assert "AUTO_INCREMENT" in show_create_table(project["Author"])


def test_sql_of_a_table_that_is_not_there(history):
    project = history(models.BigAutoField(primary_key=True))
    project.drop()
    assert len(project.alter(RANDOM, collect_sql=True)) == 3


def test_the_variable_is_restored_after_an_error(history, monkeypatch):
    project = history(models.BigAutoField(primary_key=True))
    project.drop()
    with pytest.raises(DatabaseError):
        project.alter(BigAutoRandomField(primary_key=True))
    assert not is_set()


def test_data_migrations(history):
    project = history(RANDOM)
    # RunPython passes such a historical model to data migrations.
    author = project["Author"](pk=7, name="ann")
    with pytest.raises(NotSupportedError, match="allow_explicit_ids"):
        author.save()
    with allow_explicit_ids():
        author.save()
    assert project["Author"].objects.get().pk == 7


@pytest.fixture
def allow_rebuild(monkeypatch):
    monkeypatch.setitem(
        connection.settings_dict,
        "OPTIONS",
        {**connection.settings_dict["OPTIONS"], "rebuild_tables": True},
    )


@pytest.mark.parametrize("cache", [None, 1])
@pytest.mark.parametrize("arguments", [{}, {"shard_bits": 3, "range": 54}])
def test_negative_ids(history, allow_rebuild, cache, arguments):
    """Negative ids are kept, both by an ALTER TABLE and by a rebuild of the table."""
    options = {"tidb_auto_id_cache": cache} if cache else {}
    project = history(models.BigAutoField(primary_key=True), **options)
    ann, bob = fill(project)
    for key in (-1, -5, -(2**53)):
        project["Author"].objects.create(pk=key, name="negative", mentor_id=bob)
    project.alter(BigAutoRandomField(primary_key=True, **arguments))
    rows = project["Author"].objects.filter(name="negative")
    assert set(rows.values_list("pk", flat=True)) == {-1, -5, -(2**53)}
    rows.delete()
    check_rows(project, ann, bob)


IMPOSSIBLE = [
    pytest.param(
        BigAutoRandomField(primary_key=True, shard_bits=6),
        RANDOM,
        "TiDB cannot lower the shard bits of AUTO_RANDOM from 6 to 5.",
        id="shard bits",
    ),
    pytest.param(
        RANDOM,
        models.BigAutoField(primary_key=True),
        "TiDB cannot take AUTO_RANDOM from a column.",
        id="auto increment",
    ),
    pytest.param(
        models.BigIntegerField(primary_key=True),
        RANDOM,
        "not of a BigIntegerField.",
        id="plain",
    ),
    pytest.param(
        RANDOM,
        BigAutoRandomField(primary_key=True, range=54),
        "TiDB cannot change the range of AUTO_RANDOM from 64 to 54.",
        marks=pytest.mark.works("auto-random-range"),
        id="range",
    ),
    pytest.param(
        models.BigAutoField(primary_key=True),
        BigAutoRandomField(primary_key=True, javascript_safe=True),
        "with a range of 64 only, not 54.",
        marks=pytest.mark.works("auto-random-range"),
        id="javascript",
    ),
]


def fill_any(history):
    """Insert rows, with explicit ids if the field does not generate ids."""
    if isinstance(history["Author"]._meta.pk, models.AutoField):
        return fill(history)
    Author, Book = history["Author"], history["Book"]
    ann = Author.objects.create(pk=11, name="ann")
    bob = Author.objects.create(pk=12, name="bob", mentor=ann)
    Book.objects.create(author=bob).others.add(ann, bob)
    return ann.pk, bob.pk


@pytest.mark.parametrize(("old", "new", "reason"), IMPOSSIBLE)
def test_refused_with_rows(history, old, new, reason):
    project = history(old)
    fill_any(project)
    before = show_create_table(project["Author"])
    with pytest.raises(NotSupportedError, match=re.escape(reason)) as error:
        project.alter(new)
    assert (
        "The field 'id' of autorandom.Author cannot be changed in the table "
        "'autorandom_author': "
    ) in str(error.value)
    assert "['OPTIONS']['rebuild_tables']" in str(error.value)
    assert show_create_table(project["Author"]) == before


@pytest.mark.parametrize(("old", "new", "reason"), IMPOSSIBLE)
def test_rebuilt(history, allow_rebuild, old, new, reason):
    project = history(old)
    keys = fill_any(project)
    assert any("is rebuilt" in sql for sql in project.alter(new, collect_sql=True))
    project.alter(new)
    kind = "AUTO_INCREMENT" if isinstance(new, models.BigAutoField) else "AUTO_RANDOM"
    if isinstance(new, BigAutoRandomField):
        bits, range_bits = new.bits(connection)
        kind = f"AUTO_RANDOM({bits}"
        assert ("54) */" in show_create_table(project["Author"])) == (range_bits == 54)
    assert kind in show_create_table(project["Author"])
    check_rows(project, *keys)


def test_rebuilt_for_a_key_that_is_not_clustered(history, allow_rebuild):
    project = history(models.BigAutoField(primary_key=True), tidb_clustered=False)
    keys = fill(project)
    project.alter(RANDOM)
    assert "NONCLUSTERED" not in show_create_table(project["Author"])
    check(project, *keys)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (models.UUIDField(primary_key=True), RANDOM),
        (
            models.IntegerField(primary_key=True),
            BigAutoRandomField(primary_key=True),
        ),
        (RANDOM, models.AutoField(primary_key=True)),
        (
            BigAutoRandomField(primary_key=True, shard_bits=6),
            BigAutoRandomField(primary_key=True, db_column="key"),
        ),
    ],
)
def test_refused(history, allow_rebuild, old, new):
    project = history(old)
    before = show_create_table(project["Author"])
    with pytest.raises(
        NotSupportedError,
        match=r"^The field 'id' of autorandom\.Author cannot be changed in the table "
        r"'autorandom_author': .*Its migration",
    ):
        project.alter(new)
    assert show_create_table(project["Author"]) == before


def test_the_cache_goes_with_auto_increment(history):
    from django_tidb_autorandom.operations import AlterRowIdOptions

    project = history(models.BigAutoField(primary_key=True), tidb_auto_id_cache=1)
    project.alter(RANDOM)
    project.run(AlterRowIdOptions("Author", {}))
    check(project, *fill(project))


@pytest.mark.parametrize("killed_before", [True, False])
def test_rows_that_come_before_a_migration_is_run_again(history, killed_before):
    # With AUTO_ID_CACHE 1, the migration sets the counter in a separate statement, and
    # can be killed before this statement.
    h = history(models.BigAutoField(primary_key=True), tidb_auto_id_cache=1)
    ann, bob = fill(h)
    with (
        connection.cursor() as cursor,
        connection.session_variables(tidb_allow_remove_auto_inc=1),
    ):
        cursor.execute(
            "ALTER TABLE autorandom_author MODIFY id BIGINT AUTO_RANDOM(5) NOT NULL"
        )
        if not killed_before:
            cursor.execute("ALTER TABLE autorandom_author AUTO_RANDOM_BASE = 100")
        for _ in range(3):
            try:
                cursor.execute("INSERT INTO autorandom_author (name) VALUES ('new')")
            except IntegrityError:
                # The random bits of the new id are 0, and a row already has this id.
                assert killed_before
    h.alter(RANDOM)
    Author = h["Author"]
    Author.objects.filter(name="new").delete()
    check(h, ann, bob)


def test_large_ids_take_a_rebuild(history, allow_rebuild):
    h = history(models.BigAutoField(primary_key=True))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO autorandom_author (id, name) VALUES ({2**60 + 5}, 'large')"
        )
    h.alter(RANDOM)
    assert "AUTO_RANDOM(5)" in show_create_table(h["Author"])
    new = {h["Author"].objects.create(name="new").pk for _ in range(20)}
    assert len(new) == 20
    assert h["Author"].objects.get(name="large").pk == 2**60 + 5


def test_there_and_back_and_there(history, allow_rebuild):
    h = history(models.BigAutoField(primary_key=True))
    ann, bob = fill(h)
    for field in (RANDOM, models.BigAutoField(primary_key=True), RANDOM):
        h.alter(field)
        h["Author"].objects.create(name="one more").delete()
    check_rows(h, ann, bob)


def test_large_ids_are_refused_without(history):
    h = history(models.BigAutoField(primary_key=True))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO autorandom_author (id, name) VALUES ({2**60 + 5}, 'large')"
        )
    before = show_create_table(h["Author"])
    with pytest.raises(NotSupportedError, match=r"large ids.*rebuild_tables"):
        h.alter(RANDOM)
    assert show_create_table(h["Author"]) == before


def test_again_after_the_column_was_renamed(history):
    h = history(models.BigAutoField(primary_key=True))
    ann, bob = fill(h)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE autorandom_author RENAME COLUMN id TO the_id")
    h.alter(BigAutoRandomField(primary_key=True, db_column="the_id"))
    check(h, ann, bob)


def test_table_whose_name_is_no_word(history):
    from django_tidb_autorandom.operations import AlterRowIdOptions

    project = history(
        models.BigAutoField(primary_key=True), db_table="autorandom_author\n50% %s"
    )
    project.alter(RANDOM)
    project.run(AlterRowIdOptions("Author", {"tidb_auto_id_cache": 200}))
    definition = show_create_table(project["Author"])
    assert "AUTO_RANDOM(5)" in definition
    assert "AUTO_ID_CACHE=200" in definition
    # sqlmigrate announces the rebuild of a table in a comment.
    field = BigAutoRandomField(primary_key=True, shard_bits=3)
    for sql in project.alter(field, collect_sql=True):
        assert not sql.startswith("--") or "\n" not in sql
    project.alter(field)
    assert "AUTO_RANDOM(3)" in show_create_table(project["Author"])


@pytest.fixture
def other_database(transactional_db):
    """Create an empty database whose name has capitals, a space and a percent sign."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE `test_Other 50%`", None)
    yield "test_Other 50%"
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE `test_Other 50%`", None)


class Twins:
    """
    A model with a table in another database. A table of the same name in the current
    database already has the definition that the migration gives to the other table.
    """

    def __init__(self, database, pk, twin):
        self.state = ProjectState()
        table = f"{database}`.`autorandom_Author"
        fields = [("id", pk), ("name", models.CharField(max_length=20))]
        self.create = migrations.CreateModel(
            "Author", fields, options={"db_table": table}
        )
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE autorandom_author ({twin})")

    def run(self, operation, **kwargs):
        return History.run(self, operation, **kwargs)

    def __getitem__(self, name):
        return History.__getitem__(self, name)


@pytest.fixture
def twins(other_database):
    yield lambda pk, twin: Twins(other_database, pk, twin)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE autorandom_author")


@pytest.mark.parametrize(
    "twin",
    [
        "id BIGINT AUTO_RANDOM(5) PRIMARY KEY, name VARCHAR(20)",
        "id BIGINT AUTO_INCREMENT PRIMARY KEY NONCLUSTERED, name VARCHAR(20)",
        "`key` BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20)",
    ],
    ids=["converted", "nonclustered", "renamed"],
)
def test_table_of_another_database(twins, twin):
    project = twins(models.BigAutoField(primary_key=True), twin)
    project.run(project.create)
    ann = project["Author"].objects.create(name="ann").pk
    field = BigAutoRandomField(primary_key=True, db_column="key")
    project.run(migrations.AlterField("Author", "id", field))
    assert "AUTO_RANDOM(5)" in show_create_table(project["Author"])
    assert project["Author"].objects.get().pk == ann
    project["Author"].objects.create(name="bob")


def test_again_after_a_conversion_in_another_database(twins):
    twin = "id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20)"
    project = twins(models.BigAutoField(primary_key=True), twin)
    project.run(project.create)
    before = project.state
    for _ in range(2):
        project.state = before
        project.run(migrations.AlterField("Author", "id", RANDOM))
    assert "AUTO_RANDOM(5)" in show_create_table(project["Author"])


def test_options_of_a_table_of_another_database(twins):
    from django_tidb_autorandom.operations import AlterRowIdOptions
    from django_tidb_autorandom.options import read_options

    twin = "id BIGINT AUTO_INCREMENT PRIMARY KEY NONCLUSTERED"
    project = twins(models.BigAutoField(primary_key=True), twin)
    project.run(project.create)
    project.run(AlterRowIdOptions("Author", {"tidb_auto_id_cache": 200}))
    table = project["Author"]._meta.db_table
    assert read_options(connection, table) == {
        "tidb_clustered": True,
        "tidb_auto_id_cache": 200,
    }


@pytest.mark.parametrize("killed", [True, False])
def test_table_name_in_other_letters(history, killed):
    """Before TiDB 8.5, information_schema compares names of tables exactly."""
    project = history(
        models.BigAutoField(primary_key=True), db_table="AutoRandom_Author"
    )
    before = project.state
    ann, bob = fill(project)
    with connection.cursor() as cursor:
        cursor.execute("RENAME TABLE autorandom_author TO autorandom_other")
        cursor.execute("RENAME TABLE autorandom_other TO autorandom_AUTHOR")
    project.alter(RANDOM)
    if killed:
        project.state = before
        project.alter(RANDOM)
    check(project, ann, bob)
