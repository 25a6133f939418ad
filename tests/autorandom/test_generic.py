"""The check of generic foreign keys."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core import checks
from django.db import DataError, models
from django.db.models import Q
from django.test.utils import isolate_apps

from django_tidb_autorandom import BigAutoRandomField
from django_tidb_autorandom.generic import check_generic_foreign_keys, check_model

from .utils import table


@pytest.fixture
def make():
    """A function that makes models, of which none is in the registry."""
    with isolate_apps("tests.autorandom") as registry:

        def make(name, *bases, **contents):
            meta = {"app_label": "autorandom", **contents.pop("meta", {})}
            return type(
                name,
                bases or (models.Model,),
                {"__module__": __name__, "Meta": type("Meta", (), meta), **contents},
            )

        make.registry = registry
        yield make


def generic(make, object_id, name="Tag", limit=None, **contents):
    """Make a model that refers to any model."""
    return make(
        name,
        content_type=models.ForeignKey(
            ContentType, models.CASCADE, limit_choices_to=limit
        ),
        object_id=object_id,
        target=GenericForeignKey(),
        **contents,
    )


def auto_random(make, name="Event", **arguments):
    return make(name, id=BigAutoRandomField(primary_key=True, **arguments))


def found(make, model):
    return list(check_model(model, make.registry.get_models()))


def test_message(make):
    Tag = generic(make, models.IntegerField())
    for name in ("Event", "Click", "Visit", "Answer"):
        auto_random(make, name)
    make("Ticket", id=models.BigAutoField(primary_key=True))
    assert found(make, Tag) == [
        checks.Warning(
            "autorandom.Tag.object_id, of type IntegerField, cannot hold the ids of "
            "autorandom.Answer, autorandom.Click, autorandom.Event and 1 more: these "
            "have AUTO_RANDOM keys, and the GenericForeignKey 'target' can refer to "
            "them.",
            hint=(
                "Make the object id a BigIntegerField, which may take a model of your "
                "own, or give new tables BigAutoRandomField(range=32, shard_bits=4). "
                "The documentation shows both: https://github.com/pingcap/django-tidb/"
                "blob/main/docs/topics/ids.md#generic-foreign-keys"
            ),
            obj=Tag._meta.get_field("object_id"),
            id="tidb_autorandom.W006",
        )
    ]


LARGEST = {
    64: 2**63 - 1,
    54: 2**53 - 1,
    33: 2**32 - 1,
    32: 2**31 - 1,
}


RANGES = {
    models.SmallIntegerField(): (),
    models.PositiveSmallIntegerField(): (),
    models.IntegerField(): (32,),
    models.PositiveIntegerField(): (32, 33),
    models.BigIntegerField(): (32, 33, 54, 64),
    models.PositiveBigIntegerField(): (32, 33, 54, 64),
    models.CharField(max_length=9): (),
    models.CharField(max_length=10): (32, 33),
    models.CharField(max_length=18): (32, 33, 54),
    models.CharField(max_length=19): (32, 33, 54, 64),
    models.TextField(): (32, 33, 54, 64),
}


def test_the_server_agrees(make, transactional_db):
    """What the check says of a field is what the column says of the largest id."""
    events = {
        bits: auto_random(make, f"Event{bits}", range=bits, shard_bits=4)
        for bits in LARGEST
    }
    tags = {
        field: generic(make, field.clone(), name=f"Tag{number}")
        for number, field in enumerate(RANGES)
    }
    columns = {f"column{number}": field.clone() for number, field in enumerate(RANGES)}
    for field in columns.values():
        field.null = True
    Row = make("Row", **columns)
    with table(Row):
        row = Row.objects.create()
        for column, (field, ranges) in zip(columns, RANGES.items(), strict=True):
            for bits, event in events.items():
                fits = bits in ranges
                # As if it were the only one.
                issues = list(check_model(tags[field], [event]))
                assert (issues == []) == fits, (field, bits)
                with ExitStack() as stack:
                    if not fits:
                        stack.enter_context(pytest.raises(DataError))
                    Row.objects.update(**{column: LARGEST[bits]})
                if fits:
                    row.refresh_from_db()
                    assert int(getattr(row, column)) == LARGEST[bits]


class SmallField(models.IntegerField):
    """An integer field of a project, which has the column of Django's."""


class OtherField(models.IntegerField):
    def get_internal_type(self):
        return "OtherField"


@pytest.mark.parametrize(
    ("field", "warned"),
    [
        (SmallField(), True),
        # Nothing is known of it.
        (OtherField(), False),
        # No model with such a key is meant.
        (models.UUIDField(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types(make, field, warned):
    auto_random(make)
    assert bool(found(make, generic(make, field))) == warned


def test_models_without_such_keys(make):
    make("Ticket", id=models.BigAutoField(primary_key=True))
    make("Document", id=models.UUIDField(primary_key=True))
    assert found(make, generic(make, models.IntegerField())) == []


def test_keys_that_are_relations(make):
    """A child of an AUTO_RANDOM model has its ids."""
    Event = auto_random(make)
    make("Concert", Event)
    make(
        "Profile",
        event=models.OneToOneField(Event, models.CASCADE, primary_key=True),
    )
    make("ProxyEvent", Event, meta={"proxy": True})
    (issue,) = found(make, generic(make, models.IntegerField()))
    named = "autorandom.Concert, autorandom.Event, autorandom.Profile: these"
    assert named in issue.msg


def test_declared_relations(make):
    """If some models declare the relation, no others are meant."""
    Tag = generic(make, models.IntegerField())
    Ticket = make(
        "Ticket", id=models.BigAutoField(primary_key=True), tags=GenericRelation(Tag)
    )
    auto_random(make)
    assert found(make, Tag) == []
    make("Click", id=BigAutoRandomField(primary_key=True), tags=GenericRelation(Tag))
    make("Fair", Ticket)
    (issue,) = found(make, Tag)
    assert "the ids of autorandom.Click: these" in issue.msg


class TagField(models.fields.related.RelatedField):
    """As django-taggit's TaggableManager: a relation through a model of choice."""

    many_to_many = True
    many_to_one = one_to_many = one_to_one = False

    def __init__(self, through):
        rel = models.ManyToManyRel(self, "autorandom.Tag", through=through)
        super().__init__(rel=rel)

    def contribute_to_class(self, cls, name, **kwargs):
        self.set_attributes_from_name(name)
        self.model = cls
        cls._meta.add_field(self)


def test_fields_of_apps(make):
    Tag = generic(make, models.IntegerField())
    Other = generic(make, models.BigIntegerField(), name="Other")
    auto_random(make)
    assert len(found(make, Tag)) == 1
    # A model of the project's own is used in its place.
    make("Fair", id=BigAutoRandomField(primary_key=True), tags=TagField(Other))
    assert found(make, Tag) == found(make, Other) == []
    make("Click", id=BigAutoRandomField(primary_key=True), tags=TagField(Tag))
    (issue,) = found(make, Tag)
    assert "the ids of autorandom.Click: these" in issue.msg


def test_generic_foreign_keys_of_one_model(make):
    Tag = generic(
        make,
        models.IntegerField(),
        other_id=models.PositiveIntegerField(null=True),
        other=GenericForeignKey("content_type", "other_id"),
    )
    make(
        "Event",
        id=BigAutoRandomField(primary_key=True),
        tags=GenericRelation(Tag, object_id_field="other_id"),
    )
    make("Click", id=models.BigAutoField(primary_key=True), tags=GenericRelation(Tag))
    (issue,) = found(make, Tag)
    assert issue.obj.name == "other_id"


def test_inherited_generic_foreign_keys(make):
    auto_random(make)
    Tag = generic(make, models.IntegerField())
    assert found(make, make("ChildTag", Tag)) == []
    assert found(make, make("ProxyTag", Tag, meta={"proxy": True})) == []
    Base = generic(make, models.IntegerField(), name="BaseTag", meta={"abstract": True})
    assert len(found(make, make("OwnTag", Base))) == 1


@pytest.mark.parametrize(
    ("limit", "warned"),
    [
        ({}, True),
        ({"app_label": "autorandom", "model": "event"}, True),
        ({"app_label": "autorandom", "model": "ticket"}, False),
        ({"model__in": ("ticket", "event")}, True),
        ({"model__in": ["ticket"]}, False),
        (Q(app_label="autorandom", model="ticket") | Q(model="event"), True),
        (Q(app_label="autorandom", model="ticket") | Q(model="user"), False),
        (~Q(model="event"), False),
        (~Q(model="ticket"), True),
        # Unknown: it may be so.
        ({"pk__gt": 7}, True),
        (~Q(pk__gt=7), True),
        (Q(pk__gt=7) & Q(model="ticket"), False),
        (Q(pk__gt=7) | Q(model="ticket"), True),
        (lambda: {"model": "ticket"}, True),
    ],
)
def test_limit_choices_to(make, limit, warned):
    auto_random(make)
    Tag = generic(make, models.IntegerField(), limit=limit)
    assert bool(found(make, Tag)) == warned


def test_databases(make, settings):
    auto_random(make)
    Tag = generic(make, models.IntegerField())

    class Router:
        sqlite = ""

        def allow_migrate(self, db, app_label, model_name=None, **hints):
            return db == "sqlite" or model_name != self.sqlite

    settings.DATABASE_ROUTERS = [Router()]
    assert len(found(make, Tag)) == 1
    for Router.sqlite in ("tag", "event"):
        assert found(make, Tag) == []


def test_wrong_models(make):
    """What other checks report is no error here."""
    auto_random(make, range="54")
    Tag = generic(make, models.IntegerField())
    assert found(make, Tag) == []
    auto_random(make, "Click")
    for name, *arguments in (
        ("NoType", "nothing", "object_id"),
        ("NoId", "content_type", "nothing"),
    ):
        Other = make(
            name,
            content_type=models.IntegerField(),
            object_id=models.IntegerField(),
            target=GenericForeignKey(*arguments),
        )
        assert found(make, Other) == []
    Other = make(
        "Another",
        content_type=models.IntegerField(),
        object_id=models.IntegerField(),
        target=GenericForeignKey(),
    )
    assert len(found(make, Other)) == 1


def test_registered():
    assert check_generic_foreign_keys in checks.registry.registry.registered_checks
    assert check_generic_foreign_keys(None) == []


def test_without_contenttypes(settings):
    settings.INSTALLED_APPS = ["tests.autorandom", "django_tidb_autorandom"]
    assert check_generic_foreign_keys(None) == []
