from __future__ import annotations

from django.db import models

#: The comment by which inspectdb recognises the column.
COMMENT = "expires"


class ExpiresField(models.DateTimeField):
    """The time after which a row may be deleted."""

    def __init__(self, *args, **kwargs):
        kwargs["db_comment"] = COMMENT
        super().__init__(*args, **kwargs)

    def deconstruct(self):
        name, path, args, kwargs = super().deconstruct()
        del kwargs["db_comment"]
        return name, path, args, kwargs
