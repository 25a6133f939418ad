"""AUTO_RANDOM: https://docs.pingcap.com/tidb/stable/auto-random"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core import checks
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tidb import is_tidb

__all__ = ["BigAutoRandomField"]

# Both ends are included.
SHARD_BITS = (1, 15)
RANGE = (32, 64)


class BigAutoRandomField(models.BigAutoField):
    """
    A BIGINT primary key whose values TiDB spreads over the whole cluster.

    `shard_bits` (1 to 15) is the number of bits that TiDB draws at random; of
    a 64-bit key one is the sign, and the rest count up. `range` (32 to 64,
    needs TiDB 6.3 and is left out below) is the number of bits of the whole
    key: 54 makes keys that JavaScript's numbers hold exactly.

    On other databases the field is a ``BigAutoField``.
    """

    def __init__(
        self, *args: Any, shard_bits: int = 5, range: int = 64, **kwargs: Any
    ) -> None:
        self.shard_bits = shard_bits
        self.range = range
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        kwargs["shard_bits"] = self.shard_bits
        kwargs["range"] = self.range
        return name, "django_tidb_autorandom.BigAutoRandomField", args, kwargs

    def get_internal_type(self) -> str:
        # Whatever knows Django's fields by their names treats this one as a
        # BigAutoField: other backends, lookups, Cast(), related fields.
        return "BigAutoField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        if not is_tidb(connection):
            return super().db_type(connection)
        arguments = [self.shard_bits]
        if self.range != RANGE[1] and connection.tidb_version >= (6, 3):
            arguments.append(self.range)
        return f"bigint AUTO_RANDOM({', '.join(str(int(n)) for n in arguments)})"

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        # The other checks ask for the type of the column.
        if errors := [
            *self._check_bits("shard_bits", *SHARD_BITS, id="tidb_autorandom.E001"),
            *self._check_bits("range", *RANGE, id="tidb_autorandom.E002"),
        ]:
            return errors
        return [*super().check(**kwargs), *self._check_app()]

    def _check_bits(
        self, name: str, low: int, high: int, id: str
    ) -> list[checks.CheckMessage]:
        value = getattr(self, name)
        if type(value) is int and low <= value <= high:
            return []
        return [
            checks.Error(
                f"'{name}' is {value!r}; it must be an integer from {low} to {high}.",
                obj=self,
                id=id,
            )
        ]

    def _check_app(self) -> list[checks.CheckMessage]:
        if apps.is_installed("django_tidb_autorandom"):
            return []
        return [
            checks.Warning(
                "BigAutoRandomField is used without its app.",
                hint="Add 'django_tidb_autorandom' to INSTALLED_APPS.",
                obj=self,
                id="tidb_autorandom.W001",
            )
        ]
