"""
A synthetic project of $BENCH_MODELS models. Each model has three indexes, and each
pair of models has three foreign keys. Models refer to each other in groups of ten:
with all of them in one chain, Django would spend most of the time on the state of
migrations.
"""

from __future__ import annotations

import os

from django.db import models

NUMBER = int(os.environ.get("BENCH_MODELS", "100"))


def _make(number: int) -> type[models.Model]:
    name = f"Model{number:03}"
    fields: dict[str, models.Field] = {
        "name": models.CharField(max_length=50),
        "number": models.IntegerField(default=0),
        "moment": models.DateTimeField(null=True),
        "parent": models.ForeignKey(
            f"Model{number // 10 * 10:03}", models.CASCADE, null=True, related_name="+"
        ),
    }
    if number % 2:
        fields["other"] = models.ForeignKey(
            f"Model{number - 1:03}", models.CASCADE, null=True, related_name="+"
        )
    indexes = [
        models.Index(fields=columns, name=f"{name.lower()}_{columns[0]}")
        for columns in (["name"], ["number"], ["moment", "number"])
    ]
    meta = type("Meta", (), {"indexes": indexes})
    return type(name, (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


MODELS = [_make(number) for number in range(NUMBER)]
