"""Test that every code block of the how-to guides and topics runs, in its order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import MANAGE

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DATABASE = """
import os
from pathlib import Path

DATABASES = {{
    "default": {{
        "ENGINE": "django_tidb",
        "NAME": {name!r},
        "USER": os.environ["TIDB_USER"],
        "PASSWORD": os.environ["TIDB_PASSWORD"],
        "HOST": os.environ["TIDB_HOST"],
        "PORT": int(os.environ["TIDB_PORT"]),
    }}
}}
INSTALLED_APPS += ["shop"]
"""


class Guide:
    """A page of the documentation, and a project that follows it."""

    def __init__(self, page, project):
        self.project = project
        text = (DOCS / page).read_text()
        self.blocks = BLOCK.findall(text)
        assert len(self.blocks) == text.count("```") / 2
        (project.path / "manage.py").unlink()
        for command in (["startproject", "mysite", "."], ["startapp", "shop"]):
            subprocess.run(
                [sys.executable, "-m", "django", *command],
                cwd=project.path,
                check=True,
            )
        # The manage.py of startproject would use the DJANGO_SETTINGS_MODULE of the
        # tests.
        project.write("manage.py", MANAGE.replace('"settings"', '"mysite.settings"'))
        self.append("mysite/settings.py", DATABASE.format(name=project.name))

    def append(self, name, text):
        with (self.project.path / name).open("a") as file:
            file.write(text)

    def follow(self, until=None):
        """Run the blocks up to the block that contains `until`; return their output."""
        output = []
        while self.blocks and (until is None or until not in self.blocks[0][1]):
            language, code = self.blocks.pop(0)
            if language == "sh":
                for line in code.splitlines():
                    assert line.startswith("python manage.py "), line
                    output.append(self.project.manage(*line.split()[2:]))
                continue
            assert language == "python"
            target, _, code = code.partition("\n")
            if target == "# python manage.py shell":
                output.append(self.project.shell(code))
            elif target == "# mysite/settings.py":
                self.append("mysite/settings.py", code)
            else:
                name, _, place = target[2:].partition(", ")
                assert re.fullmatch(r"(shop|mysite)/\w+(/\w+)?\.py", name), target
                {"": self.project.write, "at the end": self.append}[place](name, code)
        return output


ROWS = """
from shop.models import Customer, Order

ann, bob = Customer.objects.create(name="ann"), Customer.objects.create(name="bob")
ann.friends.add(bob)
Order.objects.create(customer=bob)
"""

CHECK = """
from shop.models import Customer, Order
from django.db import connection

ann, bob = Customer.objects.order_by("pk")
assert (ann.pk, bob.pk) == (1, 2) and Order.objects.get().customer == bob
assert set(ann.friends.all()) == {bob} and set(bob.friends.all()) == {ann}
new = [Customer.objects.create(name="new") for _ in range(20)]
assert all(customer.pk & (2**58 - 1) > 2 for customer in new)
assert len({customer.pk >> 58 for customer in new}) > 1
new[0].friends.add(new[1], bob)
order = Order.objects.create(customer=new[0])
assert order.customer.friends.count() == 2
"""


GUESTBOOK = {
    "__init__": "",
    "models": """
        from django.db import models


        class Guest(models.Model):
            pass
    """,
    "migrations/__init__": "",
    "migrations/0001_initial": """
        from django.db import migrations, models


        class Migration(migrations.Migration):
            initial = True
            operations = [
                migrations.CreateModel(
                    name="Guest",
                    fields=[
                        (
                            "id",
                            models.AutoField(
                                auto_created=True,
                                primary_key=True,
                                serialize=False,
                                verbose_name="ID",
                            ),
                        )
                    ],
                )
            ]
    """,
}


@pytest.mark.parametrize("key", ["AutoField", "BigAutoField"])
def test_convert_to_auto_random(project, tidb, key):
    guide = Guide("howto/convert-to-auto-random.md", project)
    guide.append(
        "mysite/settings.py", f"DEFAULT_AUTO_FIELD = 'django.db.models.{key}'\n"
    )
    guide.follow(until="# mysite/settings.py")
    apps = project.path / "shop/apps.py"
    apps.write_text(re.sub(r" +default_auto_field.*\n", "", apps.read_text()))
    project.manage("makemigrations", "shop")
    project.manage("migrate")
    project.shell(ROWS)
    _, sql, _ = guide.follow(until="GuestbookConfig")
    assert ("`id` bigint AUTO_INCREMENT" in sql) == (key == "AutoField")
    assert sql.count("SET @@SESSION.tidb_allow_remove_auto_inc = 1;") == 2
    assert "AUTO_RANDOM(5)" in sql
    project.shell(CHECK)
    for table, kind in {
        "shop_customer": "AUTO_RANDOM(5)",
        "shop_order": "AUTO_RANDOM(5)",
        "shop_customer_friends": "AUTO_INCREMENT",
    }.items():
        tidb.execute(f"SHOW CREATE TABLE `{project.name}`.`{table}`")
        assert kind in tidb.fetchone()[1]
    project.manage("makemigrations", "--check")
    if key == "BigAutoField":
        # The remaining part is the same for both keys, so it is tested with one of
        # them.
        return
    for name, text in GUESTBOOK.items():
        project.write(f"guestbook/{name}.py", text)
    own = "\nINSTALLED_APPS += ['guestbook']\n"
    settings = project.path / "mysite/settings.py"
    before = settings.read_text()
    settings.write_text(before + own)
    # The guide warns that this app gets a migration.
    output = project.manage("makemigrations", "--check", "--dry-run", check=False)
    assert "Alter field id on guest" in output
    project.manage("migrate", "guestbook")
    output = project.shell("from guestbook.models import Guest; Guest(id=7).save()")
    assert "a migration is pending" in output
    settings.write_text(before)
    guide.follow()
    project.manage("makemigrations", "--check")
    output = project.shell("from guestbook.models import Guest; Guest(id=8).save()")
    assert "pending" not in output


TOO_SMALL = """
class Speaker(models.Model):
    id = BigAutoRandomField(primary_key=True)
    tags = TaggableManager()
"""


IDS = """
from django.db import DataError, NotSupportedError
from django.test import RequestFactory
from shop.middleware import ExplicitIds
from shop.models import Event, Speaker

# The counter goes on where the repair has set it.
assert Event.objects.create(name="next").pk % 2**58 == 9
assert Event.objects.count() == 4

middleware = ExplicitIds(lambda request: Event.objects.create(pk=-5))
assert middleware(RequestFactory().get("/admin/")).pk == -5
try:
    middleware(RequestFactory().get("/"))
except NotSupportedError:
    pass
else:
    raise AssertionError("The block is for the admin.")

refused = 0
for _ in range(10):
    speaker = Speaker.objects.create()
    try:
        speaker.tags.add("famous")
    except DataError as error:
        assert error.args[0] == 1264
        refused += 1
    else:
        # What is drawn at random is 0 for one in 32.
        assert speaker.pk < 2**31, speaker.pk
assert refused, "django-taggit has larger ids now."
"""


@pytest.mark.works("auto-random-range")
def test_ids(project, tidb):
    guide = Guide("topics/ids.md", project)
    guide.append(
        "mysite/settings.py",
        "INSTALLED_APPS += ['django_tidb', 'django_tidb_autorandom']\n",
    )
    guide.follow(until="import json")
    project.manage("makemigrations", "shop")
    project.manage("migrate", "shop")
    guide.follow(until="makemigrations shop")
    guide.append("shop/models.py", TOO_SMALL)
    output, *_ = guide.follow()
    # The check reports only TOO_SMALL, not the page's two solutions.
    assert output.count("tidb_autorandom.W006") == 1
    assert "cannot hold the ids of shop.Speaker: these" in output
    project.shell(IDS)


def test_migrations(project, tidb):
    guide = Guide("topics/migrations.md", project)
    guide.append("mysite/settings.py", "INSTALLED_APPS += ['django_tidb']\n")
    guide.follow(until="db_collation")
    project.shell("from shop.models import Customer; Customer.objects.create(name='A')")
    guide.follow(until="rebuild_tables")
    message = project.manage("migrate", check=False)
    assert "OPTIONS']['rebuild_tables']" in message
    guide.follow()
    project.shell(
        """
        from django.db import IntegrityError
        from shop.models import Customer

        assert Customer.objects.get().name == "A"
        try:
            Customer.objects.create(name="a")
        except IntegrityError:
            pass
        else:
            raise AssertionError("They are the same.")
        """
    )
    tidb.execute(f"SHOW TABLES FROM `{project.name}` LIKE '%rebuild%'")
    assert tidb.fetchall() == ()


HISTORY_ADMIN = """
from django.contrib import admin
from shop.models import Article
from simple_history.admin import SimpleHistoryAdmin

admin.site.register(Article, SimpleHistoryAdmin)
"""
COMPARE_MORE = """
import numpy as np
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from shop.models import Article, Film, Photo, Song
from shop.vectors import same

assert same(None, None) and same("a", "a") and not same("a", None)
vector = np.float32([0.1, 2, 3])
assert same(vector, [0.1, 2, 3]) and same("[0.1,2,3]", vector)
assert not same(vector, None) and not same(None, vector)
assert not same(vector, [0.1, 2]) and not same(vector, [0.1, 2, 4])

# What is read later, in part, or not at all.
photo = Photo.objects.defer("embedding").get()
assert not photo.is_dirty() and photo.embedding.size == 3 and not photo.is_dirty()
photo.embedding = [1, 2, 3]
photo.title = "second"
assert set(photo.get_dirty_fields()) == {"embedding", "title"}
photo.save_dirty_fields()
assert not photo.is_dirty()
assert Photo.objects.get().embedding.tolist() == [1, 2, 3]

song = Song.objects.defer("embedding").get()
assert song.tracker.changed() == {}
assert not song.tracker.has_changed("embedding")
song.embedding = [1, 2, 3]
assert song.tracker.has_changed("embedding")
assert same(song.tracker.previous("embedding"), [0.1, 0.2, 0.3])
song.title = "second"
song.save()
assert song.tracker.changed() == {}

third, second, _ = Article.objects.get().history.all()
assert third.diff_against(second, excluded_fields=["embedding"]).changes == []
assert third.diff_against(second, included_fields=["title"]).changes == []
(change,) = third.diff_against(second, included_fields=["embedding"]).changes
assert same(change.old, [0.1, 0.2, 0.3]) and same(change.new, [0.1, 0.2, 4])
third.instance.save()
third.embedding = [7, 7, 7]
third.title = "third"
assert third.diff_against(second).changed_fields == ["embedding", "title"]
client = Client(SERVER_NAME="localhost")
client.force_login(User.objects.create_superuser("ann"))
page = client.get(f"/admin/shop/article/{third.id}/history/").content.decode()
assert "Embedding" in page and "0.3" in page, page

film = Film.objects.get()
film.title = "second"
film.save()
assert LogEntry.objects.first().changes == {"title": ["first", "second"]}
"""


@pytest.mark.works("vector")
def test_vector_search(project):
    Guide("topics/vector-search.md", project).follow()


@pytest.mark.works("vector")
def test_compare_vectors(project):
    guide = Guide("howto/compare-vectors.md", project)
    guide.follow()
    project.write("shop/admin.py", HISTORY_ADMIN)
    project.shell(COMPARE_MORE)


def test_connections(project, tidb_server):
    guide = Guide("topics/connections.md", project)
    address = f"{tidb_server.host}:{tidb_server.port}"
    # No server listens on port 1.
    guide.blocks[0] = (
        "python",
        guide.blocks[0][1].replace(
            "tidb-0.example.com,tidb-1.example.com:4001", f"{address},127.0.0.1:1"
        ),
    )
    (output,) = guide.follow()
    assert output.splitlines()[-2:] == ["personal: True", "personal: False"]
    output = project.shell(
        """
        from django.db import connection
        connection.ensure_connection()
        print(connection.connection.get_host_info())
        """
    )
    assert "127.0.0.1" in output or "localhost" in output


PAY = """
import uuid
from unittest import mock

from django.test import RequestFactory
from django_tidb.errors import CommitOutcomeUnknown
from shop import views
from shop.models import Account, Transfer

ann, bob = Account.objects.get(name="ann"), Account.objects.get(name="bob")
order = {"key": str(uuid.uuid4()), "source": "ann", "target": "bob", "amount": "1"}
made = views.transfer


def cut_after_commit(*args):
    # The COMMIT was executed, and its answer has not arrived.
    calls.append(made(*args))
    if len(calls) == 1:
        raise CommitOutcomeUnknown(2013, "Lost connection")
    return calls[-1]


calls = []
with mock.patch.object(views, "transfer", cut_after_commit):
    response = views.pay(RequestFactory().post("/", order))
assert response.content == b"paid"
assert calls == [True, False]
assert Transfer.objects.filter(key=order["key"]).count() == 1
assert Account.objects.get(name="bob").balance == bob.balance + 1
"""


PAY_OUT = """
import uuid
from unittest import mock

from django.db import OperationalError
from django_tidb.errors import CommitOutcomeUnknown
from mysite.celery import app
from shop import tasks
from shop.models import Account

made = tasks.transfer


def cut_after_commit(*args):
    calls.append(made(*args))
    if len(calls) == 1:
        raise CommitOutcomeUnknown(2013, "Lost connection")
    return calls[-1]


assert issubclass(CommitOutcomeUnknown, OperationalError)
app.conf.task_always_eager = True
calls = []
with mock.patch.object(tasks, "transfer", cut_after_commit):
    tasks.pay_out.delay(str(uuid.uuid4()), "eve", 1)
assert calls == [True, False]
assert Account.objects.get(name="eve").balance == 29
"""


def test_transactions(project, tidb):
    guide = Guide("topics/transactions.md", project)
    guide.append("mysite/settings.py", "INSTALLED_APPS += ['django_tidb']\n")
    guide.follow(until="committed by CREATE TABLE")
    project.shell(PAY)
    guide.follow()
    project.shell(PAY_OUT)
