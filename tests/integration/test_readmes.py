"""Test that every code block of the READMEs runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {path.name for path in (ROOT / "packages").iterdir()}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

CONTRIB = ("django.contrib.auth", "django.contrib.contenttypes")


def blocks(readme):
    text = readme.read_text()
    found = BLOCK.findall(text)
    assert len(found) == text.count("```") / 2
    return found


LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def links(page):
    """Return the files to which a page links."""
    targets = LINK.findall(page.read_text())
    return {(page.parent / target).resolve() for target in targets if ":" not in target}


def test_links_lead_to_files():
    folders = "benchmarks", "chaos", "docs", "examples", "packages", "tests"
    pages = [*ROOT.glob("*.md")]
    for folder in folders:
        pages += (ROOT / folder).rglob("*.md")
    assert ROOT / "README.md" in pages
    missing = {
        page: {file for file in links(page) if not file.exists()} for page in pages
    }
    assert {page: files for page, files in missing.items() if files} == {}


def test_the_documentation_lists_all_pages():
    index = ROOT / "docs" / "README.md"
    pages = {*ROOT.glob("docs/*/*.md"), *ROOT.glob("packages/*/README.md")}
    assert len(pages) > 10
    assert pages <= links(index)
    assert index in links(ROOT / "README.md")


@pytest.mark.parametrize(
    "readme",
    [
        ROOT / "README.md",
        pytest.param(
            ROOT / "packages/django-tidb-autorandom/README.md",
            marks=pytest.mark.works("auto-random-range"),
        ),
        ROOT / "packages/django-tidb-core/README.md",
        pytest.param(
            ROOT / "packages/django-tidb-vector/README.md",
            marks=pytest.mark.works("vector"),
        ),
    ],
    ids=["root", "autorandom", "core", "vector"],
)
def test_readme(readme, project):
    # The OPTIONS in the READMEs need a server with TLS; test_tls.py tests them.
    own = {"NAME": project.name, "OPTIONS": {}}
    database = f"DATABASES['default'] |= TIDB | {own!r}"
    settings, models, shell = ["DATABASES = {'default': TIDB}"], [], []
    commands = [["makemigrations", "app"], ["migrate"]]
    migrations = {}
    for language, code in blocks(readme):
        if language == "sh":
            for line in code.splitlines():
                # test_demo.py tests scripts/demo, and scripts/test runs this test.
                if re.match(r"scripts/(demo|test)( |$)", line):
                    assert (ROOT / line.split()[0]).stat().st_mode & 0o111, line
                    continue
                if line.startswith("python manage.py "):
                    commands.append(line.split()[2:])
                    continue
                # The packaging tests run the pip commands with the built packages.
                assert re.match(r"pip (install|uninstall -y) ", line), line
                for dist in re.findall(r"django-tidb[\w-]*", line):
                    assert dist in DISTRIBUTIONS | {"django-tidb"}, line
            continue
        assert language == "python"
        target, _, code = code.partition("\n")
        if target.startswith("# app/migrations/"):
            migrations[target.removeprefix("# ")] = code
            continue
        {
            "# settings.py": settings,
            "# app/models.py": models,
            "# python manage.py shell": shell,
        }[target].append(code)
    project.write("app/__init__.py", "")
    project.write("app/models.py", "\n".join(models))
    project.configure(*CONTRIB, "app", more="\n".join([*settings, database]))
    # A README may add an app in several sections, since readers skip sections.
    project.write(
        "settings.py",
        (project.path / "settings.py").read_text()
        + "\nINSTALLED_APPS = list(dict.fromkeys(INSTALLED_APPS))\n",
    )
    for command in commands:
        project.manage(*command)
        # The README's migrations depend on the migration that makemigrations has
        # written.
        while migrations:
            project.write(*migrations.popitem())
    for code in shell:
        project.shell(code)
