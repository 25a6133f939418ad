"""Test vectors in the cloned test databases of parallel tests."""

from __future__ import annotations

import pytest
from django.db import connections

from .models import Item


@pytest.mark.works("vector")
@pytest.mark.django_db(transaction=True)
def test_vectors_are_copied_with_the_test_database():
    connection = connections["default"]
    Item.objects.create(embedding=[1, 2.5, 3])
    Item.objects.create(other=[0.1] * 5)
    creation = connection.creation
    source = connection.settings_dict["NAME"]
    copy = creation.get_test_db_clone_settings("vectors")["NAME"]

    def contents(cursor, database):
        cursor.execute(f"SELECT * FROM `{database}`.vector_item ORDER BY id")
        rows = cursor.fetchall()
        cursor.execute(f"SHOW COLUMNS FROM `{database}`.vector_item")
        return rows, cursor.fetchall()

    with connection.cursor() as cursor:
        try:
            creation.clone_test_db("vectors", verbosity=0)
            expected = contents(cursor, source)
            assert len(expected[0]) == 2
            assert contents(cursor, copy) == expected
        finally:
            cursor.execute(f"DROP DATABASE IF EXISTS `{copy}`")
