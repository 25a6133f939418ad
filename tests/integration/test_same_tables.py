"""
Test that migrations create the same tables as with django-tidb, in fewer statements.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import django
import pytest
from uv import find_uv_bin

CONTRIB = (
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.flatpages",
    "django.contrib.messages",
    "django.contrib.redirects",
    "django.contrib.sessions",
    "django.contrib.sites",
)
NAME = """\
DATABASES = {"default": TIDB | {"NAME": os.environ.get("OTHER_NAME", TIDB["NAME"])}}
"""
CHECK = "condition" if django.VERSION >= (5, 1) else "check"
MODELS = f"""\
import uuid

from django.db import models
from django.db.models.functions import Lower


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)
    email = models.EmailField(db_index=True, null=True)
    friends = models.ManyToManyField("self")
    editor = models.ForeignKey("self", models.SET_NULL, null=True)
    favourite = models.ForeignKey("Book", models.SET_NULL, null=True, related_name="+")

    class Meta:
        indexes = [models.Index(Lower("name"), name="author_lower")]


class Person(models.Model):
    born = models.DateField(null=True)

    class Meta:
        abstract = True


class Customer(Person):
    code = models.UUIDField(default=uuid.uuid4, primary_key=True)
    rating = models.PositiveSmallIntegerField(db_comment="0 to 100 %")

    class Meta:
        db_table_comment = "who pays, 'mostly'"
        constraints = [
            models.CheckConstraint(
                {CHECK}=models.Q(rating__lte=100), name="customer_rating"
            )
        ]


class GoldCustomer(Customer):
    since = models.DateTimeField()


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    owner = models.ForeignKey(Customer, models.CASCADE, to_field="code", db_index=False)
    plain = models.ForeignKey(
        Author, models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    twin = models.OneToOneField("self", models.CASCADE, null=True)
    title = models.CharField(max_length=100, db_collation="utf8mb4_general_ci")
    text = models.TextField()
    data = models.JSONField()
    raw = models.BinaryField()
    price = models.DecimalField(max_digits=9, decimal_places=2)
    published = models.DateTimeField(db_index=True)
    buyers = models.ManyToManyField(Customer, through="Sale", related_name="bought")

    class Meta:
        unique_together = [("author", "title")]
        indexes = [
            models.Index(fields=["owner", "-price"], name="book_owner_price"),
            models.Index(fields=["published", "title"], name="book_published"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["title", "published"], name="book_unique"),
            models.UniqueConstraint(Lower("title"), "price", name="book_lower"),
        ]


class Sale(models.Model):
    book = models.ForeignKey(Book, models.CASCADE)
    customer = models.ForeignKey(Customer, models.CASCADE)

    class Meta:
        db_table = "a_table_with_a_rather_long_name_for_whatever_has_been_sold"
        constraints = [
            models.UniqueConstraint(fields=["book", "customer"], name="one_sale")
        ]
"""
# A redundant index of a foreign key could prevent these changes of the models.
LATER = (
    MODELS.replace('unique_together = [("author", "title")]', "pass")
    .replace('models.Index(fields=["owner", "-price"], name="book_owner_price"),', "")
    .replace(
        'models.UniqueConstraint(fields=["book", "customer"], name="one_sale")', ""
    )
    .replace("    editor = models.ForeignKey", "    # editor = models.ForeignKey")
)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """Return a function that runs manage.py with django-tidb."""
    if django.VERSION >= (6, 1):
        pytest.skip(
            "No django-tidb for Django 6.1: https://pypi.org/project/django-tidb/"
        )
    venv = tmp_path_factory.mktemp("upstream") / "venv"
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, venv], check=True)
    line = ".".join(map(str, django.VERSION[:2]))
    subprocess.run(
        [
            *(uv, "pip", "install", "-q", "-p", venv / "bin/python", "mysqlclient"),
            *(f"django~={line}.0", f"django-tidb~={line}.0"),
        ],
        check=True,
    )

    def manage(project, *args, **environ):
        result = subprocess.run(
            [venv / "bin/python", "manage.py", *args],
            cwd=project.path,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout

    return manage


@pytest.fixture
def other_name(project, tidb):
    name = f"{project.name}_upstream"
    tidb.execute(f"CREATE DATABASE {name}")
    # This variable is global. django-tidb always sends CHECK constraints.
    tidb.execute("SET GLOBAL tidb_enable_check_constraint = 1")
    yield name
    tidb.execute("SET GLOBAL tidb_enable_check_constraint = 0")
    tidb.execute(f"DROP DATABASE {name}")


def tables(tidb, name):
    tidb.execute(f"SHOW TABLES FROM {name}")
    found = {}
    for (table,) in list(tidb.fetchall()):
        tidb.execute(f"SHOW CREATE TABLE `{name}`.`{table}`")
        text = re.sub(r" AUTO_INCREMENT=\d+", "", tidb.fetchone()[1])
        found[table] = sorted(line.strip().rstrip(",") for line in text.split("\n"))
    return found


def without_redundancy(lines):
    """
    Remove indexes of foreign keys whose column is the first column of another index.
    Also remove django-tidb's CHECK (JSON_VALID(...)), which the type JSON makes
    redundant.
    """
    lines = [line for line in lines if " CHECK ((json_valid(" not in line]
    # The numbers of the other CHECK constraints depend on the removed constraint.
    lines = [re.sub(r"_chk_\d+", "_chk", line) for line in lines]
    # On Django 4.2, django-tidb doubles the percent signs of comments.
    lines = [line.replace("%%", "%") for line in lines]
    foreign = re.findall(r"CONSTRAINT `\w+` FOREIGN KEY \((.+?)\)", "\n".join(lines))
    kept = []
    for line in lines:
        match = re.match(r"KEY `\w+` \((`\w+`)\)$", line)
        if match and match[1] in foreign:
            others = [
                other
                for other in lines
                if other != line
                and re.match(rf"(UNIQUE |PRIMARY )?KEY .*?\({match[1]}[,)]", other)
            ]
            if others:
                continue
        kept.append(line)
    return kept


@pytest.mark.works("expression-index")
@pytest.mark.works("foreign-key")
def test_same_tables(project, tidb, upstream, other_name):
    project.configure(*CONTRIB, "app", more=f"{NAME}SITE_ID = 1")
    project.write("app/__init__.py", "")
    project.write("app/models.py", MODELS)
    project.manage("makemigrations", "app")
    project.manage("migrate")
    upstream(project, "migrate", OTHER_NAME=other_name)
    ours, theirs = tables(tidb, project.name), tables(tidb, other_name)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 18
    for table, lines in ours.items():
        assert without_redundancy(lines) == without_redundancy(theirs[table]), table

    # Our backend can remove indexes and columns from the tables of both backends.
    project.write("app/models.py", LATER)
    project.manage("makemigrations", "app")
    project.manage("migrate", "app")
    project.manage("migrate", "app", OTHER_NAME=other_name)
    for name in (project.name, other_name):
        book = "\n".join(tables(tidb, name)["app_book"])
        assert "(`author_id`,`title`)" not in book
        assert "book_owner_price" not in book
        for column in ("author_id", "owner_id"):
            assert f"FOREIGN KEY (`{column}`)" in book
            assert re.search(rf"KEY `\w+` \(`{column}`\)", book)
        assert "editor" not in "\n".join(tables(tidb, name)["app_author"])
    # All migrations can be reversed on both databases.
    for environ in ({}, {"OTHER_NAME": other_name}):
        project.manage("migrate", "app", "zero", **environ)
