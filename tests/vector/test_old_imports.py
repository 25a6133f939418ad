"""Test the import path of django-tidb 6 and earlier versions."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("fresh_plugins")


def test_old_import_path_leads_to_the_same_objects():
    import django_tidb.fields.vector
    import django_tidb_vector

    for name in (
        "CosineDistance",
        "L1Distance",
        "L2Distance",
        "NegativeInnerProduct",
        "VectorField",
        "VectorIndex",
    ):
        assert getattr(django_tidb.fields.vector, name) is getattr(
            django_tidb_vector, name
        )


def test_old_import_path_without_the_plugin_names_the_distribution(monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())
    with pytest.raises(ImportError, match="pip install django-tidb-vector"):
        from django_tidb.fields.vector import VectorField  # noqa: F401
