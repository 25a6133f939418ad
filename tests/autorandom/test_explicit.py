from __future__ import annotations

import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core import serializers
from django.core.management import call_command
from django.db import (
    DataError,
    Error,
    NotSupportedError,
    connections,
    models,
    transaction,
)
from django.db.models import F
from django.db.utils import DatabaseError, IntegrityError
from hypothesis import given
from hypothesis import strategies as st

from django_tidb_autorandom import BigAutoRandomField, allow_explicit_ids
from django_tidb_autorandom.explicit import (
    EXPLICIT_ID_SHARE,
    _check_range,
    _check_share,
)

from .models import Comment, Concert, Event, Member, ShortEvent
from .utils import connection

COUNTER = 2**58 - 1


def is_allowed():
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.allow_auto_random_explicit_insert")
        return bool(cursor.fetchone()[0])


INSERTS = {
    "save": lambda: Event(pk=7).save(),
    "force_insert": lambda: Event(pk=7).save(force_insert=True),
    "create": lambda: Event.objects.create(pk=7),
    "bulk_create": lambda: Event.objects.bulk_create([Event(), Event(pk=7)]),
    "update_or_create": lambda: Event.objects.update_or_create(pk=7),
    "get_or_create": lambda: Event.objects.get_or_create(pk=7),
    "inherited": lambda: Concert.objects.create(pk=7),
    "text": lambda: Event.objects.create(pk="7"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("insert", INSERTS.values(), ids=INSERTS)
def test_refused(insert):
    message = (
        "autorandom.Event.id is an AUTO_RANDOM key, whose ids TiDB draws; a row with "
        "the id 7 is refused. Leave the id out, or insert the row in a block of "
        "django_tidb_autorandom.allow_explicit_ids(using='default'). Around code that "
        "is not yours, the block can stand in a middleware, or in a view that calls "
        "the other one. It allows ids only in its own thread, and asynchronous methods "
        "such as acreate() use another one: put the block and a synchronous method "
        "into a function, and call that with sync_to_async()."
    )
    # One of the INSERTS passes the id as a string.
    pattern = re.escape(message).replace("7", "'?7'?")
    with pytest.raises(NotSupportedError, match=pattern), transaction.atomic():
        insert()
    assert not Event.objects.filter(pk=7).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("insert", INSERTS.values(), ids=INSERTS)
def test_allowed(insert):
    with allow_explicit_ids():
        assert is_allowed()
        insert()
    assert not is_allowed()
    assert Event.objects.filter(pk=7).exists()


@pytest.mark.django_db
def test_other_writes_are_not_concerned():
    event = Event.objects.create()
    Comment.objects.create(event=event)
    Comment.objects.update(event=event)
    Event.objects.update(name="new")
    event.save()
    Event.objects.bulk_create([Event(), Event()])
    assert Event.objects.count() == 3


@pytest.mark.django_db
def test_variable_that_the_project_sets():
    with connection.cursor() as cursor:
        cursor.execute("SET allow_auto_random_explicit_insert = 1")
        Event.objects.create(pk=7)
        with allow_explicit_ids():
            Event.objects.create(pk=8)
        assert is_allowed()
        cursor.execute("SET allow_auto_random_explicit_insert = 0")
    with pytest.raises(NotSupportedError):
        Event.objects.create(pk=9)


@pytest.mark.django_db
def test_raw_sql_in_the_block():
    with allow_explicit_ids("default"), connection.cursor() as cursor:
        cursor.execute("INSERT INTO autorandom_event (id, name) VALUES (7, '')")
    assert Event.objects.get().pk == 7


@pytest.mark.django_db
def test_restored_after_errors_and_nesting():
    with pytest.raises(ZeroDivisionError), allow_explicit_ids():
        with allow_explicit_ids():
            Event.objects.create(pk=7)
        assert is_allowed()
        raise ZeroDivisionError
    assert not is_allowed()
    with pytest.raises(IntegrityError), transaction.atomic(), allow_explicit_ids():
        Event.objects.create(pk=7)
    assert not is_allowed()


@pytest.mark.django_db(transaction=True)
def test_restored_in_a_broken_transaction():
    with transaction.atomic():
        with allow_explicit_ids():
            # atomic(savepoint=False) marks the transaction for rollback on an error.
            with (
                pytest.raises(ZeroDivisionError),
                transaction.atomic(savepoint=False),
            ):
                Event.objects.create(pk=7)
                raise ZeroDivisionError
            assert connection.needs_rollback
        assert connection.needs_rollback
        with connection.connection.cursor() as cursor:
            cursor.execute("SELECT @@SESSION.allow_auto_random_explicit_insert")
            assert cursor.fetchone() == (0,)


@pytest.mark.django_db(transaction=True)
def test_new_connection_in_the_block():
    with allow_explicit_ids():
        connection.close()
        Event.objects.create(pk=7)
        assert is_allowed()
        connection.close()
    assert connection.connection is None
    assert not is_allowed()


@pytest.mark.django_db(transaction=True)
def test_connection_that_breaks_in_the_block(tidb):
    with pytest.raises(Error), allow_explicit_ids(), connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        tidb.execute(f"KILL TIDB {cursor.fetchone()[0]:d}")
        for _ in range(100):
            cursor.execute("SELECT SLEEP(0.05)")
    # The connection was closed, because the variable could not be switched off.
    assert connection.connection is None
    connection.close()
    assert not is_allowed()


@pytest.mark.django_db(databases=["default", "sqlite"])
def test_other_databases():
    with allow_explicit_ids("sqlite"):
        assert not is_allowed()
        Event.objects.using("sqlite").create(pk=7)
    Event.objects.using("sqlite").create(pk=-8)
    assert connections["sqlite"].connection is not None


# -- Fixtures


@pytest.mark.django_db
@pytest.mark.parametrize("format", ["json", "jsonl", "xml"])
def test_dumpdata_and_loaddata(tmp_path, format):
    events = [Event.objects.create(name=str(n)) for n in range(3)]
    Comment.objects.create(event=events[1])
    concert = Concert.objects.create(name="live", place="here")
    member = Member.objects.create()
    fixture = tmp_path / f"rows.{format}"
    call_command("dumpdata", "autorandom", format=format, output=str(fixture))
    keys = set(Event.objects.values_list("pk", flat=True))
    for model in (Comment, Concert, Event, Member):
        model.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert not is_allowed()
    assert set(Event.objects.values_list("pk", flat=True)) == keys
    assert Comment.objects.get().event == events[1]
    assert Concert.objects.get() == concert and Member.objects.get() == member


@pytest.mark.django_db(transaction=True)
def test_serialized_rollback():
    keys = {Event.objects.create(name=str(n)).pk for n in range(3)}
    # serialize_db_to_string() leaves out apps without migrations.
    content = serializers.serialize("json", Event.objects.all())
    Event.objects.all().delete()
    connection.creation.deserialize_db_from_string(content)
    assert set(Event.objects.values_list("pk", flat=True)) == keys
    assert not is_allowed()


@pytest.mark.django_db
def test_fixtures_without_such_ids_set_nothing(django_assert_num_queries):
    # The two queries switch foreign_key_checks off and on again.
    with django_assert_num_queries(2), connection.constraint_checks_disabled():
        pass


@pytest.mark.django_db(transaction=True)
def test_loaded_ids_never_collide(tmp_path):
    # The loaded ids lie just above the id that this server would draw next.
    first = Event.objects.create().pk & COUNTER
    with allow_explicit_ids():
        loaded = Event.objects.bulk_create(
            Event(pk=(shard << 58) + first + n)
            for shard in range(32)
            for n in range(1, 9)
        )
    top = max(event.pk & COUNTER for event in loaded)
    new = [Event.objects.create().pk for _ in range(40)]
    assert min(key & COUNTER for key in new) > top
    assert Event.objects.count() == 1 + len(loaded) + len(new)


# -- Saving deserialized rows


def deserialized(*rows):
    return list(serializers.deserialize("json", serializers.serialize("json", rows)))


@pytest.mark.django_db
def test_raw_saves():
    event = Event.objects.create(name="one")
    concert = Concert.objects.create(name="live", place="here")
    member = Member.objects.create()
    saved = deserialized(event, Event.objects.get(pk=concert.pk), concert, member)
    Member.objects.all().delete()
    Event.objects.all().delete()
    for row in saved:
        row.save()
        assert not is_allowed()
    assert Event.objects.get(pk=event.pk).name == "one"
    assert Concert.objects.get() == concert and Member.objects.get() == member
    # The rows exist now, so save() updates them.
    for row in saved:
        row.save()
    with pytest.raises(NotSupportedError):
        Event.objects.create(pk=7)


@pytest.mark.django_db
def test_raw_saves_that_fail():
    (row,) = deserialized(Event.objects.create())
    with pytest.raises(IntegrityError), transaction.atomic():
        row.object.save_base(raw=True, force_insert=True)
    assert not is_allowed()
    row.object.pk = -(2**63) - 1
    with pytest.raises(DataError, match="cannot have the id"), transaction.atomic():
        row.save()
    assert not is_allowed()


@pytest.mark.django_db
def test_raw_saves_in_blocks(django_assert_num_queries):
    events = [Event.objects.create() for _ in range(3)]
    saved = deserialized(*events)
    Event.objects.all().delete()
    # save() sends an UPDATE that matches no row, and the INSERT; the session variable
    # is set already.
    with allow_explicit_ids():
        with django_assert_num_queries(2):
            saved[0].save()
        assert is_allowed()
    with connection.constraint_checks_disabled():
        saved[1].save()
        assert is_allowed()
        saved[2].save()
    assert not is_allowed()
    assert set(Event.objects.all()) == set(events)


@pytest.mark.django_db(databases=["default", "sqlite"])
def test_raw_saves_elsewhere():
    (row,) = deserialized(Event(pk=7))
    row.save(using="sqlite")
    assert Event.objects.using("sqlite").get().pk == 7
    Event.objects.using("sqlite").all().delete()


# -- Tables whose key is not AUTO_RANDOM yet


@pytest.fixture
def pending(make_model, create_tables):
    """
    Return a model whose table was created before its key became a BigAutoRandomField.
    """
    Before = make_model(
        "Before",
        id=models.BigAutoField(primary_key=True),
        # This default must not be mistaken for an AUTO_RANDOM key.
        name=models.CharField(
            max_length=99, default="/*T![auto_rand] AUTO_RANDOM(5) */"
        ),
        meta={
            "db_table": "autorandom_pending",
            "db_table_comment": "bigint /*T![auto_rand] AUTO_RANDOM(5) */",
        },
    )
    create_tables(Before)
    return make_model(
        "Pending",
        id=BigAutoRandomField(primary_key=True, shard_bits=3, range=54),
        name=models.CharField(max_length=99),
        meta={"db_table": "autorandom_pending"},
    )


@pytest.mark.parametrize("key", [7, -5, 2**60])
def test_pending_migration(pending, key):
    message = (
        "autorandom.Pending.id is an AUTO_RANDOM key, but that of the table "
        "'autorandom_pending' in the database 'default' is not yet: a migration is "
        "pending. Until it has run, the table takes any id."
    )
    with pytest.warns(RuntimeWarning, match=f"^{re.escape(message)}$"):
        row = pending.objects.create(pk=key)
    assert row.pk == pending.objects.get().pk == key
    assert not is_allowed()
    # An INSERT without an id works as usual.
    assert pending.objects.create().pk > 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        for n in range(10, 15):
            pending.objects.create(pk=n)
    # Python shows a warning with the same text only once.
    assert len(caught) == 1


@pytest.mark.parametrize(
    "way",
    [
        "block",
        "raw",
        # Without a range, the server refuses no id that fits a BIGINT.
        pytest.param("update", marks=pytest.mark.works("auto-random-range")),
    ],
)
def test_pending_migration_where_ids_are_allowed(pending, way):
    if way == "block":
        with allow_explicit_ids():
            pending.objects.create(pk=7)
    elif way == "raw":
        pending(pk=7).save_base(raw=True)
    else:
        row = pending.objects.create()
        with pytest.warns(RuntimeWarning, match="a migration is pending"):
            pending.objects.filter(pk=row.pk).update(id=2**60)
        pending.objects.filter(pk=2**60).update(id=7)
    assert pending.objects.get().pk == 7


def test_pending_migration_without_a_table(transactional_db, make_model):
    Missing = make_model("Missing", id=BigAutoRandomField(primary_key=True))
    with pytest.raises(DatabaseError, match="1146"):
        Missing.objects.create(pk=7)


# -- Threads


@pytest.mark.django_db(transaction=True)
def test_asynchronous_methods():
    def create():
        with allow_explicit_ids():
            return Event.objects.create(pk=8).pk

    async def create_in_one_thread():
        return await sync_to_async(create)()

    async def create_in_another_thread():
        await Event.objects.acreate(pk=7)

    # Below async_to_sync(), sync_to_async() runs functions in the calling thread.
    assert async_to_sync(create_in_one_thread)() == 8
    with allow_explicit_ids():
        async_to_sync(create_in_another_thread)()
        with pytest.raises(NotSupportedError, match=r"acreate\(\) use another one"):
            in_a_thread(lambda: Event.objects.create(pk=9))
    assert set(Event.objects.values_list("pk", flat=True)) == {7, 8}


def in_a_thread(function):
    def run():
        try:
            return function()
        finally:
            connections["default"].close()

    with ThreadPoolExecutor() as pool:
        return pool.submit(run).result()


# -- The range of ids


@pytest.mark.works("auto-random-range")
@pytest.mark.django_db
@pytest.mark.parametrize("key", [0, -(2**53) - 1, 2**53, 2**61, "9007199254740992"])
def test_outside_the_range(key):
    message = (
        f"autorandom.ShortEvent.id cannot have the id {key!r}: with a range of 54 bits "
        f"ids are from {-(2**53)} to {2**53 - 1}, without 0."
    )
    with allow_explicit_ids():
        with (
            pytest.raises(DataError, match=re.escape(message)),
            transaction.atomic(),
        ):
            ShortEvent.objects.create(pk=key)
        ShortEvent.objects.create(pk=5)
        with (
            pytest.raises(DataError, match=re.escape(message)),
            transaction.atomic(),
        ):
            ShortEvent.objects.update(id=key)
        ShortEvent.objects.update(id=F("id") + 1)
    assert ShortEvent.objects.get().pk == 6


@pytest.mark.django_db
@pytest.mark.parametrize("key", [2**63 - 1, 2**63])
def test_refused_without_a_warning(key):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((NotSupportedError, DataError)):
            Event.objects.create(pk=key)


@pytest.mark.django_db
def test_range_of_fixtures(tmp_path):
    fixture = tmp_path / "rows.json"
    key = -(2**63) - 1
    fixture.write_text(
        f'[{{"model": "autorandom.event", "pk": {key}, "fields": {{}}}}]'
    )
    with pytest.raises(DataError, match=f"cannot have the id {key}"):
        call_command("loaddata", str(fixture))


def next_row_id(model):
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW TABLE {model._meta.db_table} NEXT_ROW_ID")
        return [row[3] for row in cursor.fetchall()]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", [Event, Concert])
def test_negative_ids(model):
    """TiDB accepts negative ids, never draws one, and does not change its counter."""
    model.objects.create()
    before = next_row_id(Event)
    with allow_explicit_ids():
        for key in (-5, -1, -(2**63)):
            row = model.objects.create(pk=key)
            assert row.pk == key
            row.name = "again"
            row.save()
        model.objects.bulk_create([Event(pk=-7)]) if model is Event else None
        assert model.objects.get_or_create(pk=-8)[0].pk == -8
    Event.objects.filter(pk=-1).update(name="updated")
    assert next_row_id(Event) == before
    new = [model.objects.create().pk for _ in range(8)]
    assert min(new) > 0 and len(set(new)) == 8
    negative = Event.objects.filter(pk__lt=0)
    assert {-5, -1, -8, -(2**63)} <= set(negative.values_list("pk", flat=True))
    if model is Event:
        Event.objects.filter(pk=-5).update(id=-6)
        assert not Event.objects.filter(pk=-5).exists()


@given(st.integers(min_value=-(2**63), max_value=-1))
def test_negative_ids_use_up_nothing(key):
    field = Event._meta.pk
    field.bits = lambda connection: (5, 64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert _check_range(field, [key], connection) is None
            _check_share(field, [key], connection)
    finally:
        del field.bits


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_share_of_the_id_space(key):
    field = Event._meta.pk
    field.bits = lambda connection: (5, 64)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _check_share(field, [key], connection)
    finally:
        del field.bits
    used = (key % 2**58) / COUNTER
    assert bool(caught) == (used > EXPLICIT_ID_SHARE)
    if caught:
        assert caught[0].category is RuntimeWarning
        assert f"The id {key} of autorandom.Event uses up {used:.1%}" in str(
            caught[0].message
        )


@pytest.mark.django_db(transaction=True)
@pytest.mark.one_server("Another server has reserved ids that are left.")
def test_recovery_of_a_table_without_ids():
    """The table recovers from error 8059 in the way that the documentation says."""
    with allow_explicit_ids(), pytest.warns(RuntimeWarning, match=r"100\.0% of"):
        Event.objects.create(pk=COUNTER)
    with pytest.raises(DatabaseError, match="8059"):
        Event.objects.create()
    Event.objects.filter(pk=COUNTER).delete()
    with pytest.raises(DatabaseError, match="8059"):
        Event.objects.create()
    with connection.cursor() as cursor:
        if connection.tidb_version >= (6, 1):
            cursor.execute("ALTER TABLE autorandom_event FORCE AUTO_RANDOM_BASE = 1")
        else:
            cursor.execute("TRUNCATE TABLE autorandom_event")
    assert Event.objects.create().pk & COUNTER < 100_000
