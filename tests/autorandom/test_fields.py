from __future__ import annotations

import copy
import re
from contextlib import ExitStack

import django
import pytest
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.management import call_command
from django.db import DatabaseError, NotSupportedError, connections, migrations, models
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter

from django_tidb.version import TiDBVersion
from django_tidb_autorandom import BigAutoRandomField
from django_tidb_autorandom.checks import check_server
from django_tidb_autorandom.plugin import plugin

from .models import (
    Account,
    Comment,
    Concert,
    Event,
    JavaScriptEvent,
    Member,
    ProxyEvent,
    ShortEvent,
)
from .utils import connection, show_create_table

composite = pytest.mark.skipif(
    django.VERSION < (5, 2),
    reason="Django has composite keys from 5.2: "
    "https://docs.djangoproject.com/en/5.2/topics/composite-primary-key/",
)


@pytest.mark.django_db
def test_create_table():
    assert "AUTO_RANDOM(5) */" in show_create_table(Event)
    assert "AUTO_RANDOM(3" in show_create_table(ShortEvent)


@pytest.mark.works("auto-random-range")
@pytest.mark.django_db
def test_create_table_with_range():
    assert "AUTO_RANDOM(3, 54) */" in show_create_table(ShortEvent)


@pytest.mark.django_db(transaction=True)
def test_keys():
    # Each row is created in a separate transaction, because all rows of one transaction
    # get the same random bits.
    events = [Event.objects.create(name=str(n)) for n in range(20)]
    assert len({event.pk for event in events}) == 20
    # With five random bits, the probability that all 20 ids have the same bits is
    # 32 ** -19.
    assert len({event.pk >> 58 for event in events}) > 1
    assert Event.objects.get(pk=events[3].pk).name == "3"


@pytest.mark.works("auto-random-range")
@pytest.mark.django_db
def test_range_limits_keys():
    assert 0 < ShortEvent.objects.create().pk < 2**53


@pytest.mark.django_db
def test_foreign_key():
    event = Event.objects.create()
    Comment.objects.create(event=event)
    assert Comment.objects.get().event == event
    assert re.search(r"`event_id` bigint(\(20\))? NOT NULL", show_create_table(Comment))


def test_range_is_left_out_before_tidb_6_3(monkeypatch):
    field = BigAutoRandomField(primary_key=True, shard_bits=3, range=54)
    for text, sql in {
        "5.7.25-TiDB-v6.2.0": "bigint AUTO_RANDOM(3)",
        "5.7.25-TiDB-v6.3.0": "bigint AUTO_RANDOM(3, 54)",
    }.items():
        version = TiDBVersion.parse(text)
        monkeypatch.setattr(type(connection), "known_tidb_version", version)
        assert field.db_type(connection) == sql


@pytest.mark.django_db(databases=["sqlite"])
def test_other_databases_see_a_big_auto_field():
    sqlite = connections["sqlite"]
    field = BigAutoRandomField(primary_key=True)
    plain = models.BigAutoField(primary_key=True)
    assert field.db_type(sqlite) == plain.db_type(sqlite)
    assert field.rel_db_type(sqlite) == plain.rel_db_type(sqlite)
    assert field.db_parameters(sqlite) == plain.db_parameters(sqlite)
    # SQLite counts ids up, and other tests may have used the first ids.
    first, second = (Event.objects.using("sqlite").create().pk for _ in range(2))
    assert first + 1 == second < 2**31


def test_deconstruct():
    _, path, args, kwargs = BigAutoRandomField(
        primary_key=True, shard_bits=6
    ).deconstruct()
    assert (path, args) == ("django_tidb_autorandom.BigAutoRandomField", [])
    assert kwargs == {"primary_key": True, "shard_bits": 6, "range": 64}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"shard_bits": 3}, {"range": 40}, {"javascript_safe": True}],
)
def test_clones_are_the_same(arguments):
    field = BigAutoRandomField(primary_key=True, **arguments)
    for other in (field.clone(), copy.copy(field), copy.deepcopy(field)):
        assert (other.shard_bits, other.range) == (field.shard_bits, field.range)
        assert other.deconstruct() == field.deconstruct()
    text, imports = MigrationWriter.serialize(field)
    scope = {}
    exec("\n".join(imports), scope)  # noqa: S102
    assert eval(text, scope).deconstruct() == field.deconstruct()  # noqa: S307


def test_javascript_safe():
    field = BigAutoRandomField(primary_key=True, javascript_safe=True)
    assert field.range == 54
    assert field.deconstruct()[3]["range"] == 54
    assert JavaScriptEvent().check() == []


@pytest.mark.works("auto-random-range")
@pytest.mark.django_db
def test_javascript_safe_keys():
    key = JavaScriptEvent.objects.create().pk
    assert int(float(key)) == key < 2**53


@pytest.mark.django_db
def test_abstract_bases_proxies_and_inheritance():
    concert = Concert.objects.create(name="one", place="here")
    assert concert.pk == concert.event_ptr_id == Event.objects.get().pk
    assert ProxyEvent.objects.get() == ProxyEvent(pk=concert.pk)
    member = Member.objects.create()
    assert Member._meta.pk.shard_bits == 4
    assert "AUTO_RANDOM(4) */" in show_create_table(Member)
    assert "AUTO_RANDOM" not in show_create_table(Concert)
    assert Member.objects.get().pk == member.pk


@pytest.mark.django_db
def test_custom_user_model(settings):
    settings.AUTH_USER_MODEL = "autorandom.Account"
    call_command("createsuperuser", "--no-input", username="ann", email="a@b.org")
    user = get_user_model().objects.get_by_natural_key("ann")
    assert isinstance(user, Account) and user.is_superuser
    assert "AUTO_RANDOM(5) */" in show_create_table(Account)


@composite
@pytest.mark.django_db(transaction=True)
def test_auto_random_in_a_composite_primary_key(create_tables):
    if connection.tidb_version < (6, 5):
        pytest.skip("https://docs.pingcap.com/tidb/stable/auto-random: from TiDB 6.5")

    class Order(models.Model):
        pk = models.CompositePrimaryKey("id", "tenant")
        id = BigAutoRandomField(shard_bits=4)
        tenant = models.BigIntegerField()

    assert Order.check(databases=["default"]) == []
    assert "primary_key" not in Order._meta.get_field("id").deconstruct()[3]
    create_tables(Order)
    assert "AUTO_RANDOM(4) */" in show_create_table(Order)
    order = Order.objects.create(tenant=7)
    assert order.pk == (order.id, 7)
    assert Order.objects.get(pk=(order.id, 7)) == order
    Order.objects.bulk_create([Order(tenant=8), Order(tenant=9)])
    assert len({order.id for order in Order.objects.all()}) == 3
    with pytest.raises(NotSupportedError, match="a row with the id 5 is refused"):
        Order.objects.create(id=5, tenant=7)
    with connection.cursor() as cursor:
        fields = connection.introspection.get_table_description(
            cursor, Order._meta.db_table
        )
    types = {
        field.name: connection.introspection.get_field_type(field.type_code, field)
        for field in fields
    }
    assert types["tenant"] == "BigIntegerField"
    # TiDB 7.5.0 calls such a table NOT_SHARDED.
    if connection.tidb_version >= (8, 5):
        assert types["id"] == "django_tidb_autorandom.BigAutoRandomField"
        assert types["id"].arguments == {"shard_bits": 4}
    else:
        assert types["id"] == "BigIntegerField"


@composite
def test_check_wants_auto_random_first_in_a_composite_primary_key(
    make_model, monkeypatch
):
    Order = make_model(
        "Order",
        pk=models.CompositePrimaryKey("tenant", "id"),
        tenant=models.BigIntegerField(),
        id=BigAutoRandomField(),
    )
    field = Order._meta.get_field("id")
    assert [issue.id for issue in field.check()] == ["tidb_autorandom.E003"]
    Order._meta.pk.field_names = ("id", "tenant")
    assert field.check() == []
    version = TiDBVersion.parse("5.7.25-TiDB-v6.4.0")
    monkeypatch.setattr(connection, "tidb_version", version)
    monkeypatch.setattr(connection.validation, "models", lambda: [Order])
    assert field.check(databases=["default", "sqlite"]) == []
    assert list(check_server(connection)) == [
        checks.Error(
            "The TiDB 6.4.0 of database 'default' has no AUTO_RANDOM in composite "
            "primary keys.",
            hint="Use a key of one column, or TiDB 6.5.",
            obj=field,
            id="tidb_autorandom.E006",
        )
    ]


def test_check_wants_a_primary_key(make_model):
    id = models.IntegerField(primary_key=True)
    Model = make_model("Model", number=BigAutoRandomField(), id=id)
    assert [issue.id for issue in Model.check()] == ["tidb_autorandom.E003"]


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        ({"default": 7}, "E004"),
        ({"javascript_safe": True, "range": 60}, "E005"),
    ],
)
def test_check_finds_contradicting_arguments(make_model, arguments, id):
    Model = make_model("Model", id=BigAutoRandomField(primary_key=True, **arguments))
    (issue,) = Model._meta.pk.check(databases=["default"])
    assert issue.id == f"tidb_autorandom.{id}"
    assert issue.hint


def test_check_range_of_old_servers(monkeypatch):
    version = TiDBVersion.parse("5.7.25-TiDB-v6.2.0")
    monkeypatch.setattr(connection, "tidb_version", version)
    field = ShortEvent._meta.pk
    assert field.check(databases=["default", "sqlite"]) == []
    models = connection.validation.models()
    assert Event in models and ShortEvent in models
    issues = [i for i in plugin.check_database(connection) if i.obj is field]
    assert issues == [
        checks.Warning(
            "The TiDB 6.2.0 of database 'default' knows no 'range', so the keys have "
            "64 bits, not 54.",
            hint=(
                "Upgrade to TiDB 6.3 before the table is created: the range of an "
                "existing table cannot be changed."
            ),
            obj=field,
            id="tidb_autorandom.W002",
        )
    ]
    found = {issue.obj for issue in check_server(connection)}
    assert field in found and Event._meta.pk not in found


@pytest.mark.django_db(transaction=True)
def test_clustered_whatever_the_server_prefers(make_model, create_tables):
    Model = make_model("Model", id=BigAutoRandomField(primary_key=True))
    with connection.cursor() as cursor:
        cursor.execute("SET tidb_enable_clustered_index = OFF")
    try:
        create_tables(Model)
        assert "CLUSTERED" in show_create_table(Model)
        assert Model.objects.create().pk
    finally:
        connection.close()


@pytest.mark.django_db
@pytest.mark.parametrize("model", [Event, ShortEvent])
def test_inspectdb(capsys, model):
    call_command("inspectdb", model._meta.db_table)
    output = capsys.readouterr().out
    known = connection.tidb_version >= (6, 3)
    range = ", range=54" if model is ShortEvent and known else ""
    assert (
        "id = django_tidb_autorandom.BigAutoRandomField("
        f"shard_bits={model._meta.pk.shard_bits}{range}, primary_key=True)"
    ) in output


def test_no_changes_after_a_round_trip():
    state = ProjectState()
    migrations.CreateModel(
        "Event",
        [("id", BigAutoRandomField(primary_key=True, javascript_safe=True))],
    ).state_forwards("autorandom", state)
    field = state.models["autorandom", "event"].fields["id"]
    assert field.range == 54


@pytest.mark.parametrize(
    ("name", "value", "id", "allowed"),
    [
        ("shard_bits", 0, "E001", "1 to 15"),
        ("shard_bits", 16, "E001", "1 to 15"),
        ("shard_bits", None, "E001", "1 to 15"),
        ("range", 31, "E002", "32 to 64"),
        ("range", 65, "E002", "32 to 64"),
        ("range", "54", "E002", "32 to 64"),
        ("shard_bits", True, "E001", "1 to 15"),
    ],
)
def test_check_names_the_wrong_argument(make_model, name, value, id, allowed):
    key = BigAutoRandomField(primary_key=True, **{name: value})
    Model = make_model("Model", id=key)
    field = Model._meta.get_field("id")
    # With `databases`, check() also asks the backend for the type of the column.
    assert field.check(databases=["default"]) == [
        checks.Error(
            f"'{name}' is {value!r}; it must be an integer from {allowed}.",
            hint=f"Leave '{name}' out for TiDB's default.",
            obj=field,
            id=f"tidb_autorandom.{id}",
        )
    ]


def test_check_warns_of_the_missing_app(settings):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_tidb_autorandom"
    ]
    field = Event._meta.pk
    assert field.check() == [
        checks.Warning(
            "BigAutoRandomField is used without its app.",
            hint="Add 'django_tidb_autorandom' to INSTALLED_APPS.",
            obj=field,
            id="tidb_autorandom.W001",
        )
    ]


@pytest.mark.works("auto-random-range")
@pytest.mark.parametrize(
    ("range_bits", "shard_bits", "fits"),
    [(32, 4, True), (32, 5, False), (42, 14, True), (42, 15, False), (64, 15, True)],
)
def test_check_and_server_agree_on_the_id_space(
    make_model, create_tables, range_bits, shard_bits, fits
):
    key = BigAutoRandomField(primary_key=True, range=range_bits, shard_bits=shard_bits)
    Narrow = make_model("Narrow", id=key)
    errors = [error.id for error in Narrow._meta.pk.check()]
    assert errors == ([] if fits else ["tidb_autorandom.E015"])
    # The server accepts and refuses the same arguments.
    with ExitStack() as stack:
        if not fits:
            stack.enter_context(pytest.raises(DatabaseError, match="8216"))
        create_tables(Narrow)
