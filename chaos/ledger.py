"""The migrations of two projects, one operation each."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

_MIGRATION = """\
from django.db import migrations, models
from django.db.models import CASCADE, F, ForeignKey, Index, UniqueConstraint


def fill(apps, schema_editor):
    # It is executed again if its outcome was unknown.
    using = schema_editor.connection.alias
    customers = apps.get_model("ledger", "Customer").objects.using(using)
    products = apps.get_model("ledger", "Product").objects.using(using)
    orders = apps.get_model("ledger", "Order").objects.using(using)
    for n in range(1, 21):
        customers.update_or_create(
            pk=n, defaults={{"name": f"n{{n}}", "email": f"{{n}}@example.com"}}
        )
        products.update_or_create(pk=n, defaults={{"label": f"l{{n}}", "price": n}})
        orders.update_or_create(pk=n, defaults={{"customer_id": n, "number": n}})


def mark(apps, schema_editor):
    using = schema_editor.connection.alias
    orders = apps.get_model("ledger", "Order").objects.using(using)
    for order in orders.all():
        orders.filter(pk=order.pk).update(note=f"order {{order.number}}")


class Migration(migrations.Migration):
    dependencies = {dependencies!r}
    operations = [
{operation}
    ]
"""

_KEY = '("id", models.BigAutoField(primary_key=True))'

#: The operations of the app "ledger", by the names of their migrations.
LEDGER = {
    "create_customer": f"""
        migrations.CreateModel("Customer", [
            {_KEY},
            ("name", models.CharField(max_length=50)),
            ("email", models.CharField(max_length=100)),
        ])""",
    "create_product": f"""
        migrations.CreateModel("Product", [
            {_KEY},
            ("label", models.CharField(max_length=50)),
            ("price", models.IntegerField()),
        ])""",
    "create_order": f"""
        migrations.CreateModel("Order", [
            {_KEY},
            ("customer", ForeignKey("ledger.Customer", CASCADE)),
            ("number", models.IntegerField()),
        ])""",
    "fill": "migrations.RunPython(fill)",
    "add_town": """
        migrations.AddField(
            "Customer", "town", models.CharField(max_length=50, default="here")
        )""",
    "add_product": """
        migrations.AddField(
            "Order", "product", ForeignKey("ledger.Product", CASCADE, null=True)
        )""",
    "longer_name": """
        migrations.AlterField("Customer", "name", models.CharField(max_length=200))""",
    "larger_price": """
        migrations.AlterField("Product", "price", models.BigIntegerField())""",
    "index_number": """
        migrations.AddIndex("Order", Index(fields=["number"], name="order_number"))""",
    "unique_email": """
        migrations.AddConstraint(
            "Customer", UniqueConstraint(fields=["email"], name="customer_email")
        )""",
    "rename_town": """migrations.RenameField("Customer", "town", "city")""",
    "add_code": """
        migrations.AddField(
            "Product", "code", models.CharField(max_length=9, null=True, unique=True)
        )""",
    "add_note": """
        migrations.AddField("Order", "note", models.CharField(max_length=50, null=True))
        """,
    "mark": "migrations.RunPython(mark)",
    "note_not_null": """
        migrations.AlterField("Order", "note", models.CharField(max_length=50))""",
    "unique_together": """
        migrations.AlterUniqueTogether("Order", {("customer", "number")})""",
    "rename_product": """migrations.RenameModel("Product", "Article")""",
    "rename_table": """migrations.AlterModelTable("Customer", "ledger_client")""",
    "remove_city": """migrations.RemoveField("Customer", "city")""",
    "add_friends": """
        migrations.AddField(
            "Customer", "friends", models.ManyToManyField("ledger.Customer")
        )""",
}

#: A table that is rebuilt for a stored generated column. It is its own parent, and has
#: a child.
SHOP = {
    "create_shop": f"""
        migrations.CreateModel("Shop", [
            {_KEY},
            ("name", models.CharField(max_length=50, unique=True)),
            ("price", models.IntegerField()),
            ("parent", ForeignKey("shop.Shop", CASCADE, null=True)),
        ])""",
    "create_item": f"""
        migrations.CreateModel("Item", [
            {_KEY},
            ("shop", ForeignKey("shop.Shop", CASCADE)),
        ])""",
    "add_double": """
        migrations.AddField("Shop", "double", models.GeneratedField(
            expression=F("price") * 2,
            output_field=models.IntegerField(),
            db_persist=True,
        ))""",
}


def write_app(folder: Path, app: str, operations: Mapping[str, str]) -> list[str]:
    """Write an app that has migrations only, and return their names."""
    migrations = folder / app / "migrations"
    migrations.mkdir(parents=True)
    for package in (migrations.parent, migrations):
        (package / "__init__.py").touch()
    names: list[str] = []
    for number, (name, operation) in enumerate(operations.items(), 1):
        text = textwrap.indent(textwrap.dedent(operation).strip() + ",", " " * 8)
        dependencies = [(app, names[-1])] if names else []
        names.append(f"{number:04}_{name}")
        (migrations / f"{names[-1]}.py").write_text(
            _MIGRATION.format(dependencies=dependencies, operation=text)
        )
    return names
