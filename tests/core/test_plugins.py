from __future__ import annotations

import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_tidb import plugins
from django_tidb.plugins import get_plugins

pytestmark = pytest.mark.usefixtures("fresh_plugins")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """
    Return a function that installs a distribution with one module and one entry point.
    """

    def install(distribution, entry_point, code):
        module = entry_point.partition(" = ")[2].partition(":")[0]
        monkeypatch.delitem(sys.modules, module, raising=False)
        path = tmp_path / distribution
        info = path / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{entry_point}\n")
        (path / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(path)

    return install


GOOD = """\
from django_tidb.plugins import Plugin

class ExamplePlugin(Plugin):
    name = {name!r}
    api_version = {version}

plugin = ExamplePlugin()
"""


def test_both_plugins_of_this_repository():
    assert [plugin.name for plugin in get_plugins()] == ["autorandom", "vector"]


def test_without_plugins(monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())
    assert get_plugins() == ()


def test_third_party_plugin(install):
    install(
        "tidb-extra", "extra = tidb_extra:plugin", GOOD.format(name="extra", version=2)
    )
    assert [plugin.name for plugin in get_plugins()] == [
        "autorandom",
        "extra",
        "vector",
    ]


def test_scanned_once_until_the_cache_is_cleared(install):
    before = get_plugins()
    install("tidb-late", "late = tidb_late:plugin", GOOD.format(name="late", version=2))
    assert get_plugins() is before
    get_plugins.cache_clear()
    assert "late" in [plugin.name for plugin in get_plugins()]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import no_such_module\n", "cannot be loaded: ModuleNotFoundError"),
        ("1 / 0\n", "cannot be loaded: ZeroDivisionError"),
        ("", "cannot be loaded: AttributeError"),
        ("plugin = 5\n", "is 5, not an instance of django_tidb.plugins.Plugin"),
        (
            GOOD.format(name="bad", version=1),
            "was written for plugin API 1; this django-tidb-core has 2",
        ),
        (
            GOOD.format(name="bad", version="'2'"),
            "was written for plugin API '2'; this django-tidb-core has 2",
        ),
        (
            "from django_tidb.plugins import Plugin\nplugin = Plugin()\n",
            "was written for plugin API None; this django-tidb-core has 2",
        ),
        (
            GOOD.format(name="worse", version=2),
            "calls itself 'worse'; the two names must be the same",
        ),
    ],
)
def test_bad_plugin_is_named(install, code, problem):
    install("tidb-bad", "bad = tidb_bad:plugin", code)
    with pytest.raises(ImproperlyConfigured) as error:
        get_plugins()
    message = str(error.value)
    assert message.startswith(
        "The plugin 'bad' (tidb_bad:plugin) of tidb-bad 1.5 in the entry-point "
        "group 'django_tidb.plugins' "
    )
    assert problem in message


def test_two_plugins_of_the_same_name(install):
    install(
        "tidb-twin", "vector = tidb_twin:plugin", GOOD.format(name="vector", version=2)
    )
    with pytest.raises(ImproperlyConfigured) as error:
        get_plugins()
    assert "tidb-twin 1.5" in str(error.value)
    assert "django-tidb-vector 0.1.0" in str(error.value)
    assert "has the same name" in str(error.value)


def test_plugins_are_immutable():
    plugin = get_plugins()[0]
    with pytest.raises(AttributeError, match="its 'name' cannot be set"):
        plugin.name = "other"


def test_meta_options_are_registered_once():
    from django.db.migrations import state
    from django.db.models import options

    get_plugins()
    get_plugins.cache_clear()
    get_plugins()
    assert options.DEFAULT_NAMES.count("tidb_auto_id_cache") == 1
    assert state.DEFAULT_NAMES.count("tidb_auto_id_cache") == 1


def test_legacy_names():
    import django_tidb.fields
    import django_tidb_autorandom

    assert (
        django_tidb.fields.BigAutoRandomField
        is django_tidb_autorandom.BigAutoRandomField
    )


def test_legacy_name_without_its_plugin(monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())
    with pytest.raises(ImportError, match="pip install django-tidb-autorandom"):
        from django_tidb.fields import BigAutoRandomField  # noqa: F401


def test_name_that_never_was():
    import django_tidb.fields

    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = django_tidb.fields.Nothing
