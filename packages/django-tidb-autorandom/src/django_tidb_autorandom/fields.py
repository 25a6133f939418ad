"""BigAutoRandomField: https://docs.pingcap.com/tidb/stable/auto-random"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core import checks
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tidb import is_tidb
from django_tidb.model_fields import has_db_default

if TYPE_CHECKING:
    from django_tidb.version import TiDBVersion

__all__ = ["BigAutoRandomField"]

# The smallest and largest values that TiDB accepts.
SHARD_BITS = (1, 15)
RANGE = (32, 64)
# TiDB needs this many bits for the counter, beside the sign and the shard
# bits.
MINIMUM_COUNTER = 27
# JavaScript numbers are exact up to 53 bits; the sign is one more bit.
JAVASCRIPT_RANGE = 54


class BigAutoRandomField(models.BigAutoField):
    """
    A BIGINT primary key whose values TiDB spreads over the whole cluster.

    A key consists of a sign bit, random bits and a counter. `shard_bits` (1 to
    15) is the number of random bits. `range` (32 to 64) is the number of bits of
    the whole key, including the sign; it needs TiDB 6.3 and has no effect on
    older servers. ``javascript_safe=True`` is the same as ``range=54``: the keys
    are below 2**53, so JavaScript and most JSON parsers represent them exactly.

    The field must be the primary key, or the first field of a
    ``CompositePrimaryKey`` (Django 5.2, TiDB 6.5). System checks report wrong
    arguments.

    On other databases the field is a ``BigAutoField``.
    """

    def __init__(
        self,
        *args: Any,
        shard_bits: int = 5,
        range: int | None = None,
        javascript_safe: bool = False,
        **kwargs: Any,
    ) -> None:
        self.shard_bits = shard_bits
        self.javascript_safe = javascript_safe
        if range is None:
            range = JAVASCRIPT_RANGE if javascript_safe else RANGE[1]
        self.range = range
        super().__init__(*args, **kwargs)

    def bits(self, connection: BaseDatabaseWrapper) -> tuple[int, int]:
        """
        Return the shard bits and the range that the keys have in the database
        of `connection`.
        """
        return self._bits(connection.tidb_version)

    def _bits(self, version: TiDBVersion) -> tuple[int, int]:
        if version >= (6, 3):
            return self.shard_bits, self.range
        return self.shard_bits, RANGE[1]

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        # Django adds primary_key=True for every AutoField, which is wrong for a part of
        # a composite key.
        if not self.primary_key:
            del kwargs["primary_key"]
        kwargs["shard_bits"] = self.shard_bits
        kwargs["range"] = self.range
        return name, "django_tidb_autorandom.BigAutoRandomField", args, kwargs

    def get_internal_type(self) -> str:
        # Django and other backends look fields up by the name of their internal type:
        # in column types, lookups, Cast() and related fields. They treat this field as
        # a BigAutoField.
        return "BigAutoField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        if not is_tidb(connection):
            return super().db_type(connection)
        # Django's checks ask for the type, from Django 6.1 on in all commands. The
        # database may not exist then, so presume a version.
        shard_bits, range_bits = self._bits(connection.features.presumed_version)
        arguments = f"{shard_bits:d}"
        if range_bits != RANGE[1]:
            arguments += f", {range_bits:d}"
        return f"bigint AUTO_RANDOM({arguments})"

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        # The other checks ask for the type of the column, which needs valid arguments.
        if errors := [
            *self._check_bits("shard_bits", *SHARD_BITS, id="tidb_autorandom.E001"),
            *self._check_bits("range", *RANGE, id="tidb_autorandom.E002"),
            *self._check_id_space(),
            *self._check_javascript_safe(),
            *self._check_default(),
        ]:
            return errors
        return [
            *super().check(**kwargs),
            *self._check_app(),
        ]

    def _check_bits(
        self, name: str, low: int, high: int, id: str
    ) -> list[checks.CheckMessage]:
        value = getattr(self, name)
        if type(value) is int and low <= value <= high:
            return []
        return [
            checks.Error(
                f"'{name}' is {value!r}; it must be an integer from {low} to {high}.",
                hint=f"Leave '{name}' out for TiDB's default.",
                obj=self,
                id=id,
            )
        ]

    def _check_id_space(self) -> list[checks.CheckMessage]:
        if type(self.range) is not int or type(self.shard_bits) is not int:
            return []
        # One bit holds the sign.
        counter = self.range - 1 - self.shard_bits
        most = self.range - 1 - MINIMUM_COUNTER
        if self.shard_bits <= most or not RANGE[0] <= self.range <= RANGE[1]:
            return []
        return [
            checks.Error(
                f"'shard_bits' is {self.shard_bits!r} and 'range' is {self.range!r}: "
                f"that leaves {counter} bits to count with, and TiDB wants "
                f"{MINIMUM_COUNTER} of them.",
                hint=f"With that range 'shard_bits' is {most} at most.",
                obj=self,
                id="tidb_autorandom.E015",
            )
        ]

    def _check_javascript_safe(self) -> list[checks.CheckMessage]:
        if not self.javascript_safe or self.range == JAVASCRIPT_RANGE:
            return []
        return [
            checks.Error(
                f"'javascript_safe' and 'range' ({self.range!r}) contradict each "
                "other.",
                hint=f"Leave one of them out; 'javascript_safe' is a range of "
                f"{JAVASCRIPT_RANGE}.",
                obj=self,
                id="tidb_autorandom.E005",
            )
        ]

    def _check_default(self) -> list[checks.CheckMessage]:
        if not self.has_default() and not has_db_default(self):
            return []
        return [
            checks.Error(
                "BigAutoRandomField has a default, but TiDB draws its values.",
                hint="Remove 'default' and 'db_default'.",
                obj=self,
                id="tidb_autorandom.E004",
            )
        ]

    def composite_key(self) -> tuple[str, ...]:
        """Return the names of the fields of the model's CompositePrimaryKey."""
        return getattr(self.model._meta.pk, "field_names", ())

    def _check_primary_key(self) -> list[checks.CheckMessage]:
        # This check replaces Django's fields.E100, which does not know composite keys.
        if self.primary_key or self.composite_key()[:1] == (self.name,):
            return []
        return [
            checks.Error(
                "BigAutoRandomField is neither the primary key nor the first field "
                "of a composite one.",
                hint=(
                    "Set primary_key=True, or from Django 5.2 on name it first in "
                    "the CompositePrimaryKey."
                ),
                obj=self,
                id="tidb_autorandom.E003",
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
