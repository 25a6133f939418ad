"""Test that django-reversion restores deleted rows of AUTO_RANDOM tables."""

from __future__ import annotations

MODELS = """
from django.db import models
from django_tidb_autorandom import BigAutoRandomField


class Event(models.Model):
    id = BigAutoRandomField(primary_key=True)
    name = models.CharField(max_length=20)


class Concert(Event):
    place = models.CharField(max_length=20)


class Ticket(models.Model):
    id = BigAutoRandomField(primary_key=True)
    event = models.ForeignKey(Event, on_delete=models.CASCADE)
    seat = models.CharField(max_length=20)
"""
ADMIN = """
from app.models import Concert, Event, Ticket
from django.contrib import admin
from reversion.admin import VersionAdmin


class TicketInline(admin.TabularInline):
    model = Ticket
    extra = 0


@admin.register(Event)
class EventAdmin(VersionAdmin):
    inlines = [TicketInline]


@admin.register(Concert)
class ConcertAdmin(VersionAdmin):
    pass
"""
URLS = """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
"""
SETTINGS = """
DATABASES = {"default": TIDB}
ROOT_URLCONF = "urls"
DEFAULT_AUTO_FIELD = "django_tidb_autorandom.BigAutoRandomField"
ALLOWED_HOSTS = ["*"]
"""
IS_ALLOWED = """
from django.db import NotSupportedError, connection


def is_allowed():
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.allow_auto_random_explicit_insert")
        return bool(cursor.fetchone()[0])
"""


def test_reversion(project):
    project.configure(
        *(f"django.contrib.{a}" for a in ("auth", "contenttypes", "sessions")),
        *("django.contrib.messages", "django.contrib.admin", "reversion", "app"),
        *("django_tidb", "django_tidb_autorandom"),
        more=SETTINGS,
    )
    project.write("app/__init__.py", "")
    project.write("app/models.py", MODELS)
    project.write("app/admin.py", ADMIN)
    project.write("urls.py", URLS)
    project.manage("makemigrations", "app")
    project.manage("migrate")
    project.write("common.py", IS_ALLOWED)
    project.shell(
        """
        import reversion
        from app.models import Concert, Event, Ticket
        from django.contrib import admin
        from reversion.models import Version
        from common import *

        admin.site  # whose classes have registered the models
        with reversion.create_revision():
            event = Event.objects.create(name="fair")
            seats = [Ticket.objects.create(event=event, seat=s) for s in "ab"]
            concert = Concert.objects.create(name="live", place="here")
        with reversion.create_revision():
            event.name = "large fair"
            event.save()
        first = Version.objects.get_for_object(event).last()
        Event.objects.all().delete()
        assert Version.objects.get_deleted(Event).count() == 2

        first.revision.revert()
        assert Event.objects.get(pk=event.pk).name == "fair"
        assert set(event.ticket_set.all()) == set(seats)
        assert Concert.objects.get(pk=concert.pk).place == "here"
        assert not is_allowed()
        # Those that are there are changed, and those that came later are deleted.
        more = Ticket.objects.create(event=event, seat="c")
        first.revision.revert(delete=True)
        assert set(Ticket.objects.all()) == set(seats)
        """
    )
    project.shell(
        """
        from app.models import Concert, Event, Ticket
        from django.contrib.auth.models import User
        from django.test import Client
        from reversion.models import Version
        from common import *

        Event.objects.all().delete()
        User.objects.create_superuser("ann", password="secret")
        client = Client(raise_request_exception=True)
        assert client.login(username="ann", password="secret")
        tickets = {
            "ticket_set-TOTAL_FORMS": 1,
            "ticket_set-INITIAL_FORMS": 0,
            "ticket_set-0-seat": "front",
        }
        page = "/admin/app/event/"
        response = client.post(page + "add/", {"name": "fair", **tickets})
        assert response.status_code == 302, response.content.decode()
        event, ticket = Event.objects.get(), Ticket.objects.get()
        response = client.post(f"{page}{event.pk}/delete/", {"post": "yes"})
        assert response.status_code == 302 and not Event.objects.exists()
        version = Version.objects.get_deleted(Event).get(object_id=event.pk)
        assert str(version.pk) in client.get(page + "recover/").content.decode()

        recover = f"{page}recover/{version.pk}/"
        response = client.get(recover)
        assert response.status_code == 200 and "front" in response.content.decode()
        # The page only looks at it.
        assert not Event.objects.exists() and not is_allowed()
        response = client.post(
            recover,
            {
                "name": "fair",
                **tickets,
                "ticket_set-INITIAL_FORMS": 1,
                "ticket_set-0-id": ticket.pk,
                "ticket_set-0-event": event.pk,
            },
        )
        assert response.status_code == 302, response.content.decode()
        assert Event.objects.get() == event and Ticket.objects.get() == ticket
        assert not is_allowed()
        try:
            Event.objects.create(pk=7)
        except NotSupportedError as error:
            assert "a middleware" in str(error)
        else:
            raise AssertionError("It is refused.")
        """
    )
