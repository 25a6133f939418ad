"""
Test queries with a subquery in ORDER BY, HAVING or a window function.

TiDB has to answer like SQLite, whichever columns are selected and under whichever
names.
"""

from __future__ import annotations

import itertools

import pytest
from django.db import connections, models
from django.db.backends.mysql import compiler as mysql
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Lag, RowNumber, Upper
from django.test.utils import CaptureQueriesContext, isolate_apps

from django_tidb.compiler import AsTiDBMixin, outer_columns

from .models import Author, Book, Reader

connection = connections["default"]
pytestmark = [
    pytest.mark.django_db(databases=["default", "sqlite"]),
    pytest.mark.thorough,
]


@pytest.fixture(autouse=True)
def rows():
    """
    Create readers. Each of their columns sorts them in another order, and so do the
    pages of the books of the author whose key is the column's value.
    """
    for database in ("default", "sqlite"):
        Author.objects.using(database).bulk_create(
            Author(pk=n, name=f"{n * 5 % 7} {n}") for n in range(1, 8)
        )
        Book.objects.using(database).bulk_create(
            Book(pk=n, author_id=n * n % 7 + 1, title=f"{n * 4 % 11}", pages=n * 7 % 13)
            for n in range(1, 25)
        )
        Reader.objects.using(database).bulk_create(
            Reader(
                pk=n,
                author_id=[1, 5, 3, None, 4, 2, 5][n % 7],
                rank=n * 7 % 13,
                level=n * 5 % 4 + 1,
            )
            for n in range(1, 13)
        )


def most(**conditions):
    books = Book.objects.filter(**conditions).order_by().values("author")
    return Subquery(books.annotate(most=Max("pages")).values("most"))


def with_pages(**conditions):
    return Exists(Book.objects.filter(pages__gt=7, **conditions))


# Each query needs a new expression, because Django resolves the references in an
# expression only once.
EXPRESSIONS = {
    "key": lambda: most(author=OuterRef("pk")),
    "renamed": lambda: most(author=OuterRef("rank")),
    "joined": lambda: Subquery(
        Book.objects.filter(author__name__gte=OuterRef("author__name"))
        .order_by("-pages", "-pk")
        .values("title")[:1]
    ),
    "exists": lambda: with_pages(author=OuterRef("author")),
    "function": lambda: Coalesce(most(author=OuterRef("rank")), 0) * 3 + F("level"),
    "case": lambda: Case(
        When(with_pages(author=OuterRef("rank")), then=F("level")),
        When(
            level__in=Book.objects.filter(author=OuterRef("pk")).values("pages"),
            then=-F("rank"),
        ),
        default=most(author=OuterRef("level")),
        output_field=models.IntegerField(),
    ),
    "nested": lambda: Subquery(
        Author.objects.filter(
            Exists(
                Book.objects.filter(
                    author=OuterRef("pk"), pages__gt=OuterRef(OuterRef("rank"))
                )
            ),
        )
        .order_by(most(author=OuterRef("pk")).desc(nulls_last=True), "-pk")
        .values("pk")[:1]
    ),
}

ORDERS = (
    {},
    {"descending": True},
    {"nulls_first": True},
    {"nulls_last": True},
    {"nulls_first": True, "descending": True},
    {"nulls_last": True, "descending": True},
)


class Query:
    """The database and the ordering of a test case."""

    def __init__(self, database, expression, order):
        self.database, self.expression, self.order = database, expression, order

    def by(self, expression=None):
        """Return the arguments of order_by()."""
        expression = self.expression() if expression is None else expression
        return models.OrderBy(expression, **self.order), "pk"

    def readers(self):
        return Reader.objects.using(self.database).order_by(*self.by())

    def all(self, model=Reader):
        return model.objects.using(self.database).order_by("pk")

    def combined(self, operator, first, second):
        if self.database == "sqlite":
            # On SQLite, Django refuses slices in the parts of a union, so combine the
            # rows in Python.
            operator = {
                "union": set.union,
                "intersection": set.intersection,
                "difference": set.difference,
            }[operator]
            return sorted(operator(set(first), set(second)))
        return sorted(getattr(first, operator)(second).order_by())


def annotated(q, **others):
    """Return readers with the expression as the alias `e`, which is not selected."""
    return q.all().alias(e=q.expression(), **others)


def having(q, **values):
    """Return groups of readers that HAVING filters by the expression."""
    found = annotated(q).values("pk", **values) if values else annotated(q)
    return found.annotate(n=Count("author__books")).filter(
        Q(n__gt=3) | Q(e__isnull=False)
    )


def numbered(q):
    return Window(RowNumber(), order_by=q.by())


def numbered_where_null(q):
    """
    Return a CASE of the expression and a window function that does not contain it.
    """
    number = Window(RowNumber(), order_by="pk")
    return Case(When(e__isnull=True, then=Value(0)), default=number)


SELECTED = {
    "model": lambda q: q.readers(),
    "column": lambda q: q.readers().values_list("level"),
    "joined column": lambda q: q.readers().values_list("author__name", flat=True),
    "columns of one name": lambda q: q.readers().values_list("pk", "author__pk"),
    "renamed": lambda q: q.readers().values(x=F("pk"), y=F("rank"), z=F("author")),
    "another's name": lambda q: q.readers().annotate(old=F("id")),
    "another's name alone": lambda q: q.readers().values(old=F("level")),
    "names of both": lambda q: q.readers().values("rank", old=F("level")),
    "some fields": lambda q: q.readers().only("level"),
    "other fields": lambda q: q.readers().defer("rank", "author"),
    "related": lambda q: [
        (reader.pk, reader.author and reader.author.name)
        for reader in q.readers().select_related("author")
    ],
    "alias": lambda q: annotated(q).order_by(*q.by(F("e"))).values("level"),
    "annotation": lambda q: (
        q.all().annotate(e=q.expression()).order_by(*q.by(F("e"))).values("e", "level")
    ),
    "annotation by name": lambda q: annotated(q).order_by("-e", "pk").values("level"),
    "extra": lambda q: q.readers().extra(select={"x": "level + 1"}).values("x"),
    "distinct": lambda q: q.readers().distinct().values_list("level"),
    "distinct models": lambda q: q.readers().annotate(old=F("level")).distinct(),
}

SLICES = {
    "reverse": lambda q: q.readers().reverse().values("level"),
    "slice": lambda q: q.readers().values_list("rank")[2:7],
    "iterator": lambda q: q.readers().values_list("level").iterator(chunk_size=5),
    "first": lambda q: [q.readers().first()],
    "last": lambda q: [q.readers().values("level").last()],
    "count": lambda q: [q.readers().values("level")[3:].count()],
    "exists": lambda q: [q.readers().values("level")[11:].exists()],
    "in bulk": lambda q: sorted(q.readers().in_bulk([1, 2])),
    "random": lambda q: [len(q.readers().order_by(*q.by(), "?").values("level"))],
    "aggregate": lambda q: [q.readers()[2:6].aggregate(Sum("rank"), Max("pk"))],
    "aggregate of values": lambda q: [
        q.readers().values(old=F("level"))[2:6].aggregate(Sum("old"))
    ],
    "FOR UPDATE": lambda q: q.readers().select_for_update().values("level"),
    "prefetch": lambda q: [
        list(author.reader_set.all())
        for author in q.all(Author).prefetch_related(
            Prefetch("reader_set", q.readers())
        )
    ],
    "prefetched slice": lambda q: [
        author.two
        for author in q.all(Author).prefetch_related(
            Prefetch("reader_set", q.readers()[:2], to_attr="two")
        )
    ],
}

# In these places, a subquery must keep the number of its columns.
SUBQUERIES = {
    "IN": lambda q: q.all().filter(pk__in=q.readers()[:4]),
    "IN of a column": lambda q: q.all().filter(
        rank__in=q.readers().values("level")[:4]
    ),
    "IN under another's name": lambda q: q.all().filter(
        rank__in=q.readers().values(old=F("level"))[:4]
    ),
    "IN and distinct": lambda q: q.all().filter(
        rank__in=q.readers().values("level").distinct()[:4]
    ),
    "NOT IN": lambda q: q.all().exclude(pk__in=q.readers().values("pk")[:4]),
    "related IN": lambda q: q.all(Author).filter(reader__in=q.readers()[:4]).distinct(),
    "EXISTS": lambda q: q.all(Author).filter(
        Exists(q.readers().filter(author=OuterRef("pk"))[1:2])
    ),
    "scalar": lambda q: q.all(Author).values_list(
        Subquery(q.readers().filter(author=OuterRef("pk")).values("rank")[:1])
    ),
    "joined scalar": lambda q: q.all(Author).values_list(
        Subquery(
            q.readers()
            .filter(author__name__gte=OuterRef("name"))
            .values("author__name")[:1]
        )
    ),
    "scalar expression": lambda q: q.all(Author).values_list(
        Subquery(
            q.readers()
            .filter(author__name__gte=OuterRef("name"))
            .values(old=Upper("author__name"))[:1]
        )
    ),
    "WHERE": lambda q: q.all(Author).filter(
        pk__lte=Subquery(q.readers().filter(author=OuterRef("pk")).values("rank")[:1])
    ),
    "ORDER BY": lambda q: (
        q.all(Author)
        .order_by(
            *q.by(
                Subquery(q.readers().filter(author=OuterRef("pk")).values("rank")[:1])
            )
        )
        .values("name")
    ),
    "union": lambda q: q.combined(
        "union",
        q.readers().values_list("level", "rank")[:4],
        q.readers().values_list("level", "rank")[6:8],
    ),
    "union under another's name": lambda q: q.combined(
        "union",
        q.readers().values_list(F("level")).annotate(old=F("id"))[:4],
        q.all().values_list("level").annotate(old=F("id"))[:3],
    ),
    "intersection": lambda q: q.combined(
        "intersection",
        q.readers().values_list("level", "rank")[:6],
        q.all().values_list("level", "rank")[:6],
    ),
    "difference": lambda q: q.combined(
        "difference",
        q.readers().values_list("level", "rank").distinct()[:6],
        q.all().values_list("level", "rank")[:3],
    ),
}

GROUPS = {
    "by key": lambda q: q.readers().annotate(n=Count("author__books")),
    "by column": lambda q: (
        q.all()
        .values("level")
        .annotate(n=Count("pk"))
        .order_by(most(author=OuterRef("level")), "level")
    ),
    "by a name": lambda q: (
        q.all()
        .values(old=F("level"))
        .annotate(n=Count("pk"))
        .order_by(most(author=OuterRef("level")), "level")
    ),
    "by another's name": lambda q: (
        q.readers().values(x=F("pk"), old=F("level")).annotate(n=Count("author__books"))
    ),
    "by a name, with an aggregate": lambda q: (
        q.all()
        .values(old=F("level"))
        .annotate(n=Count("author__books"))
        .order_by(F("n") * Coalesce(most(author=OuterRef("level")), 1), "level")
    ),
    "slice of groups": lambda q: [
        q.readers()
        .annotate(old=F("level"), n=Count("author__books"))[:4]
        .aggregate(Sum("n"))
    ],
    "IN of groups": lambda q: q.all().filter(
        pk__in=q.readers()
        .annotate(n=Count("author__books"))
        .filter(n__gt=2)
        .values("pk")[:4]
    ),
}

HAVING = {
    "model": lambda q: having(q),
    "key": lambda q: having(q, x=F("pk")),
    "another's name": lambda q: having(q, old=F("level")),
    "count": lambda q: [having(q).count()],
    "IN": lambda q: q.all().filter(pk__in=having(q).values("pk")),
    "IN under another's name": lambda q: q.all().filter(
        pk__in=having(q).values(old=F("pk"))
    ),
}

WINDOWS = {
    "model": lambda q: q.all().annotate(w=numbered(q)),
    "column": lambda q: q.all().values("level").annotate(w=numbered(q)),
    "another's name": lambda q: (
        q.all().values(x=F("pk"), old=F("level")).annotate(w=numbered(q))
    ),
    "partition": lambda q: (
        q.all()
        .values("level", old=F("pk"))
        .annotate(
            w=Window(
                RowNumber(), partition_by=[F("level"), q.expression()], order_by="pk"
            )
        )
    ),
    "argument": lambda q: (
        q.all()
        .values("level", old=F("pk"))
        .annotate(w=Window(Lag(q.expression()), order_by="pk"))
    ),
    "in the same expression": lambda q: (
        annotated(q).values("level").annotate(w=numbered_where_null(q))
    ),
    "in the same expression under another's name": lambda q: (
        annotated(q).values(old=F("level")).annotate(w=numbered_where_null(q))
    ),
    "order": lambda q: q.all().order_by(numbered(q)).values("level", old=F("pk")),
    "order and distinct": lambda q: (
        q.all().order_by(numbered(q)).values("level", old=F("pk")).distinct()
    ),
    "filter": lambda q: q.all().annotate(w=numbered(q)).filter(w__lte=4),
    "filter and order": lambda q: (
        q.readers()
        .annotate(w=Window(RowNumber(), order_by="pk"))
        .filter(w__lte=7)
        .values("level", "w")
    ),
    "aggregate": lambda q: [
        q.all().annotate(w=numbered(q)).filter(w__gt=3).aggregate(Sum("rank"))
    ],
    "IN": lambda q: q.all().filter(
        pk__in=q.all().annotate(w=numbered(q)).filter(w__lte=4).values("pk")
    ),
}


def plain(answer):
    """
    Return the rows in a comparable form: a model becomes a dict of what was selected.
    """
    return [
        {name: value for name, value in vars(row).items() if not name.startswith("_")}
        if isinstance(row, models.Model)
        else row
        for row in answer
    ]


CASES = [
    pytest.param(case, EXPRESSIONS, id=f"{title}: {name}")
    for title, cases in (
        ("select", SELECTED),
        ("slice", SLICES),
        ("subquery", SUBQUERIES),
        ("group", GROUPS),
        ("window", WINDOWS),
    )
    for name, case in cases.items()
] + [
    # Only four of the expressions are tested in HAVING. On MySQL, HAVING can refer only
    # to columns that are selected or in GROUP BY, and Django puts whole expressions
    # into GROUP BY.
    pytest.param(case, ("key", "renamed", "exists", "nested"), id=f"having: {name}")
    for name, case in HAVING.items()
]


@pytest.mark.parametrize(("case", "expressions"), CASES)
def test_rows_are_those_of_sqlite(case, expressions):
    for name, order in zip(expressions, itertools.cycle(ORDERS)):
        expected, found = (
            plain(case(Query(database, EXPRESSIONS[name], order)))
            for database in ("sqlite", "default")
        )
        assert found == expected, (name, order)


def test_raw_sql():
    pages = "SELECT MAX(b.pages) FROM core_book b WHERE b.author_id = core_reader.old"
    for database in ("sqlite", "default"):
        readers = Reader.objects.using(database).annotate(old=F("level"))
        ordered = readers.order_by(RawSQL(pages, []), "pk")  # noqa: S611
        rows = list(ordered.values_list("pk", "old"))
        if database == "sqlite":
            expected = rows
    assert rows == expected


def test_order_of_the_model():
    def model(*ordering):
        class Sorted(models.Model):
            rank = models.IntegerField(db_column="old")
            level = models.IntegerField()

            class Meta:
                app_label = "core"
                db_table = "core_reader"
                managed = False

        Sorted._meta.ordering = ordering
        return Sorted

    with isolate_apps("tests.core"):
        found = model(most(author=OuterRef("rank")).desc(nulls_last=True), "-pk")
    by_hand = Reader.objects.order_by(
        most(author=OuterRef("rank")).desc(nulls_last=True), "-pk"
    ).values_list("level", flat=True)
    assert list(found.objects.values_list("level", flat=True)) == list(by_hand)
    # Django ignores Meta.ordering in a query with GROUP BY.
    assert found.objects.values("level").annotate(n=Count("pk")).count() == 4


@pytest.mark.skipif(
    not hasattr(models, "CompositePrimaryKey"),
    reason="New in Django 5.2: https://docs.djangoproject.com/en/5.2/releases/5.2/",
)
@isolate_apps("tests.core")
def test_composite_primary_key():
    class Pair(models.Model):
        pk = models.CompositePrimaryKey("level", "id")
        level = models.IntegerField()
        id = models.IntegerField()

        class Meta:
            app_label = "core"
            db_table = "core_reader"
            managed = False

    def ordered(database):
        """Return pairs in the order of an expression that is not selected."""
        return Pair.objects.using(database).order_by(most(author=OuterRef("id")), "id")

    def distinct(database):
        """
        Return distinct rows. On SQLite this needs no DISTINCT, because each row has
        another id. With DISTINCT, Django would cut a value off each row, because it
        counts the composite key as one column.
        """
        rows = ordered(database).values_list("id", "pk", "level")
        return rows if database == "sqlite" else rows.distinct()

    def union(database, **combined):
        """
        Return the pairs in the union of two slices. On SQLite, Django refuses slices in
        a union, so the pairs are combined in Python.
        """
        first, second = (
            ordered(database).values_list("pk", "level")[part]
            for part in (slice(2), slice(5, 7))
        )
        if database == "sqlite":
            return sorted([*first, *second])
        return sorted(first.union(second, **combined).order_by())

    for select in (
        lambda database: [pair.pk for pair in ordered(database)],
        lambda database: ordered(database).values("pk"),
        lambda database: ordered(database).values("pk", "level"),
        lambda database: ordered(database).values("level", "pk"),
        lambda database: ordered(database).values("level"),
        lambda database: ordered(database).values_list("pk", flat=True)[2:5],
        lambda database: ordered(database).values_list("pk", "id"),
        distinct,
        lambda database: ordered(database).values_list("pk").iterator(chunk_size=5),
        lambda database: [ordered(database).values_list("pk", "id").first()],
        lambda database: [ordered(database).values("pk")[3:].count()],
        lambda database: ordered(database).annotate(old=F("id")).values_list("pk"),
        union,
        lambda database: union(database, all=True),
    ):
        expected, found = (list(select(database)) for database in ("sqlite", "default"))
        assert found == expected
        assert expected
    # On SQLite, Django 5.2 replaces this subquery by EXISTS and ignores the slice, so
    # the result is not compared with SQLite but with the slice itself.
    first = ordered("default").values_list("pk", flat=True)[:3]
    found = Pair.objects.filter(pk__in=ordered("default").values("pk")[:3])
    assert {pair.pk for pair in found} == set(first)


def test_update():
    """
    The rows of an UPDATE are updated in the order of the QuerySet. If that order uses a
    column of another table, the UPDATE has no ORDER BY, and still updates the rows.
    """
    readers = Reader.objects.filter(pk__lte=3)
    order = list(
        readers.order_by(most(author=OuterRef("rank")), "pk").values_list(
            "rank", flat=True
        )
    )
    with connection.cursor() as cursor:
        cursor.execute("SET @number = 0")
    number = RawSQL("(@number := @number + 1)", [])
    readers.order_by(most(author=OuterRef("rank")), "pk").update(level=number)
    assert list(readers.order_by("level").values_list("rank", flat=True)) == order
    with_join = readers.order_by(EXPRESSIONS["joined"]())
    assert with_join.update(level=1) == 3


def test_a_subquery_is_sent_once():
    ordered = Reader.objects.order_by(most(author=OuterRef("pk")).desc(nulls_last=True))
    with CaptureQueriesContext(
        connection,
    ) as captured:
        list(ordered.values("level"))
    (query,) = captured
    assert query["sql"].count("MAX(") == 1


def test_columns_in_the_queries_of_a_union():
    authors = Author.objects.order_by().values("pk")
    union = authors.filter(pk=OuterRef("rank")).union(
        authors.filter(pk=OuterRef("level"))
    )
    window = Window(RowNumber(), order_by=Subquery(union))
    query = Reader.objects.annotate(w=window).query
    columns = outer_columns(query.annotations["w"])
    assert {column.target.name for column in columns} == {"rank", "level"}


class OtherCompiler(AsTiDBMixin, mysql.SQLCompiler):
    """Django's compiler with the forms in which this backend writes expressions."""


@pytest.mark.parametrize(
    "queryset",
    [
        lambda: Reader.objects.all(),
        lambda: Reader.objects.order_by("author__name", "-rank"),
        lambda: Reader.objects.values("level").order_by(F("rank") + 1),
        lambda: Reader.objects.order_by("author__name").distinct(),
        lambda: Reader.objects.values("level").annotate(n=Count("pk")).order_by("-n"),
        lambda: Reader.objects.values("level").annotate(n=Count("pk")).filter(n__gt=1),
        lambda: Reader.objects.annotate(e=most(author=OuterRef("pk"))).order_by("e"),
        lambda: Reader.objects.filter(Exists(Book.objects.filter(pk=OuterRef("rank")))),
        lambda: Reader.objects.values("level").order_by(
            Case(When(pk__in=Book.objects.values("pages"), then=1), default=2)
        ),
        lambda: Reader.objects.values(old=F("level")).annotate(
            w=Window(RowNumber(), order_by="rank")
        ),
        lambda: Reader.objects.filter(
            pk__in=Reader.objects.order_by("author__name").values("pk")[:2]
        ),
        lambda: Reader.objects.order_by("rank")[:2].union(Reader.objects.all()[:3]),
    ],
)
def test_other_queries_are_compiled_as_by_django(queryset):
    query = queryset().query
    compiled = query.get_compiler("default").as_sql()
    query = queryset().query
    assert OtherCompiler(query, connection, "default").as_sql() == compiled
