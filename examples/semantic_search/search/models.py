from __future__ import annotations

from typing import Any

from django.db import models

from django_tidb_autorandom import BigAutoRandomField
from django_tidb_vector import CosineDistance, VectorField
from django_tidb_vector.functions import Distance

DIMENSIONS = 512


class DocumentQuerySet(models.QuerySet["Document"]):
    def nearest(
        self, vector: Any, metric: type[Distance] = CosineDistance
    ) -> DocumentQuerySet:
        """
        Order the documents by their distance from `vector`, beginning with the
        nearest document. CosineDistance is 0 for vectors of the same direction
        and 1 for orthogonal vectors.
        """
        return (
            self.annotate(distance=metric("embedding", vector))
            .only("name", "kind", "text")
            .order_by("distance")
        )


class Document(models.Model):
    """A docstring from Django's source code, with its vector."""

    class Kind(models.TextChoices):
        MODULE = "module"
        CLASS = "class"
        FUNCTION = "function"
        METHOD = "method"

    # The documents are written in bulk. TiDB spreads rows with AUTO_RANDOM keys over
    # its nodes, so that one node does not have to store all of them.
    id = BigAutoRandomField(primary_key=True)
    # Names in Python are case-sensitive, so the collation has to be case-sensitive too.
    name = models.CharField(max_length=200, unique=True, db_collation="utf8mb4_bin")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    module = models.CharField(max_length=200)
    text = models.TextField()
    embedding = VectorField(dimensions=DIMENSIONS)
    # The edition of the corpus to which the document belongs. It is empty until all
    # documents of the corpus are stored.
    edition = models.CharField(max_length=100, default="", editable=False)

    objects = DocumentQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class SearchLog(models.Model):
    """A question that a user has asked."""

    question = models.TextField()
    best_hit = models.ForeignKey(Document, models.SET_NULL, null=True)
    milliseconds = models.FloatField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        # With AUTO_ID_CACHE 1, the keys have no gaps and are in the order of the
        # questions.
        tidb_auto_id_cache = 1

    def __str__(self) -> str:
        return self.question
