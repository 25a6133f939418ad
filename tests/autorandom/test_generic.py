"""Test the check of generic foreign keys."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core import checks
from django.db import DataError, models
from django.db.models import Q

from django_tidb_autorandom import BigAutoRandomField
from django_tidb_autorandom.generic import check_generic_foreign_keys, check_model


def generic(make_model, object_id, name="Tag", limit=None, **contents):
    """Make a model with a GenericForeignKey."""
    return make_model(
        name,
        content_type=models.ForeignKey(
            ContentType, models.CASCADE, limit_choices_to=limit
        ),
        object_id=object_id,
        target=GenericForeignKey(),
        **contents,
    )


def auto_random(make_model, name="Event", **arguments):
    return make_model(name, id=BigAutoRandomField(primary_key=True, **arguments))


def found(model):
    return list(check_model(model, model._meta.apps.get_models()))


def test_warning_names_models_and_remedy(make_model):
    Tag = generic(make_model, models.IntegerField())
    for name in ("Event", "Click", "Visit", "Answer"):
        auto_random(make_model, name)
    make_model("Ticket", id=models.BigAutoField(primary_key=True))
    assert found(Tag) == [
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


def test_the_server_agrees(make_model, create_tables):
    """The check accepts a field if and only if its column can hold the largest id."""
    events = {
        bits: auto_random(make_model, f"Event{bits}", range=bits, shard_bits=4)
        for bits in LARGEST
    }
    tags = {
        field: generic(make_model, field.clone(), name=f"Tag{number}")
        for number, field in enumerate(RANGES)
    }
    columns = {f"column{number}": field.clone() for number, field in enumerate(RANGES)}
    for field in columns.values():
        field.null = True
    Row = make_model("Row", **columns)
    create_tables(Row)
    row = Row.objects.create()
    for column, (field, ranges) in zip(columns, RANGES.items(), strict=True):
        for bits, event in events.items():
            fits = bits in ranges
            # The check is run with this AUTO_RANDOM model alone.
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
    """An integer field of a project, with the column type of IntegerField."""


class OtherField(models.IntegerField):
    def get_internal_type(self):
        return "OtherField"


@pytest.mark.parametrize(
    ("field", "warned"),
    [
        (SmallField(), True),
        # The check does not know the range of such a column.
        (OtherField(), False),
        # A UUIDField refers to models with UUID keys, never to AUTO_RANDOM ones.
        (models.UUIDField(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fields_of_other_types_are_judged_by_their_column(make_model, field, warned):
    auto_random(make_model)
    assert bool(found(generic(make_model, field))) == warned


def test_models_without_auto_random_keys_are_not_warned_of(make_model):
    make_model("Ticket", id=models.BigAutoField(primary_key=True))
    make_model("Document", id=models.UUIDField(primary_key=True))
    assert found(generic(make_model, models.IntegerField())) == []


def test_keys_that_are_relations_count_as_auto_random(make_model):
    """A multi-table child of an AUTO_RANDOM model has the ids of its parent."""
    Event = auto_random(make_model)
    make_model("Concert", Event)
    make_model(
        "Profile",
        event=models.OneToOneField(Event, models.CASCADE, primary_key=True),
    )
    make_model("ProxyEvent", Event, meta={"proxy": True})
    (issue,) = found(generic(make_model, models.IntegerField()))
    named = "autorandom.Concert, autorandom.Event, autorandom.Profile: these"
    assert named in issue.msg


def test_declared_relations_exclude_other_models(make_model):
    """If some models declare a GenericRelation, the check considers no other models."""
    Tag = generic(make_model, models.IntegerField())
    Ticket = make_model(
        "Ticket", id=models.BigAutoField(primary_key=True), tags=GenericRelation(Tag)
    )
    auto_random(make_model)
    assert found(Tag) == []
    make_model(
        "Click", id=BigAutoRandomField(primary_key=True), tags=GenericRelation(Tag)
    )
    make_model("Fair", Ticket)
    (issue,) = found(Tag)
    assert "the ids of autorandom.Click: these" in issue.msg


class TagField(models.fields.related.RelatedField):
    """A relation through a given model, like django-taggit's TaggableManager."""

    many_to_many = True
    many_to_one = one_to_many = one_to_one = False

    def __init__(self, through):
        rel = models.ManyToManyRel(self, "autorandom.Tag", through=through)
        super().__init__(rel=rel)

    def contribute_to_class(self, cls, name, **kwargs):
        self.set_attributes_from_name(name)
        self.model = cls
        cls._meta.add_field(self)


def test_tag_fields_declare_the_relation(make_model):
    Tag = generic(make_model, models.IntegerField())
    Other = generic(make_model, models.BigIntegerField(), name="Other")
    auto_random(make_model)
    assert len(found(Tag)) == 1
    # Fair's tags are stored in Other, whose BigIntegerField holds any id.
    make_model("Fair", id=BigAutoRandomField(primary_key=True), tags=TagField(Other))
    assert found(Tag) == found(Other) == []
    make_model("Click", id=BigAutoRandomField(primary_key=True), tags=TagField(Tag))
    (issue,) = found(Tag)
    assert "the ids of autorandom.Click: these" in issue.msg


def test_two_generic_foreign_keys_of_a_model_are_told_apart(make_model):
    Tag = generic(
        make_model,
        models.IntegerField(),
        other_id=models.PositiveIntegerField(null=True),
        other=GenericForeignKey("content_type", "other_id"),
    )
    make_model(
        "Event",
        id=BigAutoRandomField(primary_key=True),
        tags=GenericRelation(Tag, object_id_field="other_id"),
    )
    make_model(
        "Click", id=models.BigAutoField(primary_key=True), tags=GenericRelation(Tag)
    )
    (issue,) = found(Tag)
    assert issue.obj.name == "other_id"


def test_inherited_generic_foreign_keys_are_reported_once(make_model):
    auto_random(make_model)
    Tag = generic(make_model, models.IntegerField())
    assert found(make_model("ChildTag", Tag)) == []
    assert found(make_model("ProxyTag", Tag, meta={"proxy": True})) == []
    Base = generic(
        make_model, models.IntegerField(), name="BaseTag", meta={"abstract": True}
    )
    assert len(found(make_model("OwnTag", Base))) == 1


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
        # The check cannot evaluate this condition, so it assumes a match.
        ({"pk__gt": 7}, True),
        (~Q(pk__gt=7), True),
        (Q(pk__gt=7) & Q(model="ticket"), False),
        (Q(pk__gt=7) | Q(model="ticket"), True),
        (lambda: {"model": "ticket"}, True),
    ],
)
def test_limit_choices_to_excludes_models(make_model, limit, warned):
    auto_random(make_model)
    Tag = generic(make_model, models.IntegerField(), limit=limit)
    assert bool(found(Tag)) == warned


def test_models_of_different_databases_are_not_warned_of(make_model, settings):
    auto_random(make_model)
    Tag = generic(make_model, models.IntegerField())

    class Router:
        sqlite = ""

        def allow_migrate(self, db, app_label, model_name=None, **hints):
            return db == "sqlite" or model_name != self.sqlite

    settings.DATABASE_ROUTERS = [Router()]
    assert len(found(Tag)) == 1
    for Router.sqlite in ("tag", "event"):
        assert found(Tag) == []


def test_models_that_other_checks_report_are_no_error(make_model):
    """The check raises no exception for models that other checks report."""
    auto_random(make_model, range="54")
    Tag = generic(make_model, models.IntegerField())
    assert found(Tag) == []
    auto_random(make_model, "Click")
    for name, *arguments in (
        ("NoType", "nothing", "object_id"),
        ("NoId", "content_type", "nothing"),
    ):
        Other = make_model(
            name,
            content_type=models.IntegerField(),
            object_id=models.IntegerField(),
            target=GenericForeignKey(*arguments),
        )
        assert found(Other) == []
    Other = make_model(
        "Another",
        content_type=models.IntegerField(),
        object_id=models.IntegerField(),
        target=GenericForeignKey(),
    )
    assert len(found(Other)) == 1


def test_check_is_registered():
    assert check_generic_foreign_keys in checks.registry.registry.registered_checks
    assert check_generic_foreign_keys(None) == []


def test_nothing_is_found_without_contenttypes(settings):
    settings.INSTALLED_APPS = ["tests.autorandom", "django_tidb_autorandom"]
    assert check_generic_foreign_keys(None) == []
