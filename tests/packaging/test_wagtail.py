"""Test a new Wagtail project that is made as docs/howto/wagtail.md says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.packaging.distributions import Environment

pytestmark = pytest.mark.packaging

PAGE = Path(__file__).parents[2] / "docs/howto/wagtail.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETTINGS = """
DATABASES["default"] |= {
    "NAME": %(name)r,
    "USER": %(user)r,
    "PASSWORD": %(password)r,
    "HOST": %(host)r,
    "PORT": %(port)r,
}
ALLOWED_HOSTS = ["testserver"]
"""

CHECKS = """
import io

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings
from home.models import HomePage
from wagtail.documents.models import Document
from wagtail.models import Page

assert [page.title for page in Page.objects.search("uji TEA")] == ["Green tea from Uji"]
assert [page.title for page in HomePage.objects.autocomplete("gre")] == [
    "Green tea from Uji"
]
assert Page.objects.search("coffee").count() == 0
HomePage.objects.get(depth=2).add_child(instance=HomePage(title="Steam engine"))
assert Page.objects.search("tea").count() == 2
Document.objects.create(title="Prices of tea", file="prices.pdf")
user = User.objects.create_superuser("gardener", "gardener@example.com", "secret")

client = Client()
client.force_login(user)
for path, found in {
    "/search/?query=tea": "Green tea from Uji",
    "/admin/pages/search/?q=tea": "Green tea from Uji",
    "/admin/choose-page/search/?q=tea": "Green tea from Uji",
    "/admin/documents/?q=tea": "Prices of tea",
    "/admin/images/?q=tea": "",
    "/admin/users/?q=garden": "gardener",
}.items():
    response = client.get(path, follow=True)
    assert response.status_code == 200, (path, response.status_code)
    assert found in response.content.decode(), path


def printed(*command, **options):
    text = io.StringIO()
    call_command(*command, stdout=text, stderr=text, **options)
    return text.getvalue()


assert "tidb.W004" not in printed("check", databases=["default"])
with override_settings(WAGTAILSEARCH_BACKENDS={}):
    assert printed("check", databases=["default"]).count("tidb.W004") == 1
left_out = "-- Left out: ADD FULLTEXT INDEX `fulltext_autocomplete` (`autocomplete`)"
assert left_out in printed("sqlmigrate", "wagtailsearch", "0009")
print("checked")
"""


class Project:
    """A new environment, and the project that the page creates in it."""

    def __init__(self, environment, server, name):
        self.environment = environment
        self.own = SETTINGS % {
            "name": name,
            "user": server.user,
            "password": server.password,
            "host": server.host,
            "port": server.port,
        }
        self.path = environment.directory

    def manage(self, *arguments):
        return self.environment.run("python", "manage.py", *arguments, cwd=self.path)

    def sh(self, line):
        """Run a line of a block of the page; return its output."""
        program, *arguments = line.replace('"', "").split()
        if program == "pip":
            assert arguments.pop(0) == "install"
            # PyMySQL replaces mysqlclient, because its installation needs no compiler.
            self.environment.install(
                *(name.replace("[mysqlclient]", "[pymysql]") for name in arguments)
            )
        elif program == "cd":
            (folder,) = arguments
            self.path /= folder
        elif program == "python":
            assert arguments.pop(0) == "manage.py"
            return self.manage(*arguments)
        else:
            assert program == "wagtail"
            self.environment.run(program, *arguments)
        return ""

    def follow(self, page):
        """Run the blocks of a page; return their output."""
        text = page.read_text()
        blocks = BLOCK.findall(text)
        assert len(blocks) == text.count("```") / 2
        output = []
        for language, code in blocks:
            if language == "sh":
                output += map(self.sh, code.splitlines())
                continue
            target, _, code = code.partition("\n")
            if target == "# python manage.py shell":
                output.append(self.manage("shell", "-c", code))
                continue
            assert target == "# mysite/settings/base.py"
            # Later assignments override those of Wagtail's template.
            with (self.path / target[2:]).open("a") as settings:
                settings.write(code + self.own)
        return output


@pytest.fixture
def project(built, tmp_path, tidb, tidb_server):
    name = f"wagtail_{os.getpid()}"
    tidb.execute(f"DROP DATABASE IF EXISTS {name}")
    tidb.execute(f"CREATE DATABASE {name}")
    # Without pins, uv installs the newest Wagtail for this Python, and its Django.
    environment = Environment(tmp_path, built, pinned=False)
    yield Project(environment, tidb_server, name)
    tidb.execute(f"DROP DATABASE {name}")


def test_wagtail(project):
    *_, migrated, found = project.follow(PAGE)

    # The migrations create five FULLTEXT indexes and remove one; all six are left out.
    assert migrated.count("Left out") == 6
    assert "wagtailsearch.0009_remove_ngram_autocomplete" in migrated
    assert found.count("Green tea from Uji") == 2
    assert "checked" in project.manage("shell", "-c", CHECKS)
