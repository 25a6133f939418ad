"""Test ids above 2**53 in the admin, forms, serializers and a JSON API."""

from __future__ import annotations

import pytest

from .test_upgrade import CONTRIB, PLUGINS

MODELS = """
from django.contrib import admin
from django.db import models
from django_tidb_autorandom import BigAutoRandomField


class Event(models.Model):
    id = BigAutoRandomField(primary_key=True)
    name = models.CharField(max_length=20)

    def __str__(self):
        return self.name


class Click(models.Model):
    id = BigAutoRandomField(primary_key=True, javascript_safe=True)
    event = models.ForeignKey(Event, models.CASCADE)


@admin.register(Event)
class EventAdmin(admin.ModelAdmin):
    list_display = ["pk", "name"]
    list_editable = ["name"]


@admin.register(Click)
class ClickAdmin(admin.ModelAdmin):
    list_display = ["pk", "event"]
"""

URLS = """
import json

from django.contrib import admin
from django.http import JsonResponse
from django.urls import path
from app.models import Click, Event


def api(request):
    if request.method == "POST":
        sent = json.loads(request.body)
        click = Click.objects.create(event_id=sent["event"])
    else:
        click = Click.objects.get(pk=request.GET["id"])
    return JsonResponse({"id": click.pk, "event": click.event_id})


urlpatterns = [path("admin/", admin.site.urls), path("api/", api)]
"""

SETUP = """
import json
from django.contrib.auth.models import User
from django.core import serializers
from django.forms import modelform_factory, modelformset_factory
from django.test import Client
from django.urls import reverse
from app.models import Click, Event

LARGE = 2**53
event = Event.objects.create(name="old")
while event.pk < LARGE:  # one in 32 has no random bit
    event = Event.objects.create(name="old")
client = Client()
user, _ = User.objects.get_or_create(
    username="ann", is_staff=True, is_superuser=True, is_active=True
)
client.force_login(user)
"""

ADMIN = """
changelist = reverse("admin:app_event_changelist")
page = client.get(changelist).content.decode()
# Numbers in URLs and inputs are never written with separators.
url = reverse("admin:app_event_change", args=[event.pk])
assert f'href="{url}' in page and f'value="{event.pk}"' in page
assert str(event.pk) in url
assert client.get(url).status_code == 200
response = client.post(url, {"name": "new"}, follow=True)
assert response.status_code == 200
assert Event.objects.get(pk=event.pk).name == "new"

# A list that is edited, and a foreign key chosen in a form.
data = {
    "form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "_save": "Save",
    "form-0-id": event.pk, "form-0-name": "edited",
}
client.post(changelist + f"?id={event.pk}", data)
assert Event.objects.get(pk=event.pk).name == "edited"
add = reverse("admin:app_click_add")
assert f'<option value="{event.pk}">' in client.get(add).content.decode()
client.post(add, {"event": event.pk})
click = Click.objects.get(event=event)
data = {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"}
client.post(changelist, data)
assert not Event.objects.filter(pk=event.pk).exists()
"""

FORMS = """
Form = modelform_factory(Click, fields=["event"])
form = Form({"event": str(event.pk)})
assert form.is_valid(), form.errors
assert form.save().event == event
FormSet = modelformset_factory(Event, fields=["name"], extra=0)
queryset = Event.objects.filter(pk=event.pk)
assert f'value="{event.pk}"' in FormSet(queryset=queryset).as_p()
"""

SERIALIZERS = """
Click.objects.create(event=event)
for format in ("json", "jsonl", "xml"):
    rows = [*Event.objects.order_by("pk"), *Click.objects.order_by("pk")]
    text = serializers.serialize(format, rows)
    assert str(event.pk) in text
    found = [item.object for item in serializers.deserialize(format, text)]
    assert found == rows
    assert event.pk in {getattr(row, "event_id", None) for row in found}
"""

API = """
# Python's own JSON keeps every id.
made = client.post("/api/", {"event": event.pk}, content_type="application/json").json()
assert made["event"] == event.pk
assert client.get("/api/", {"id": made["id"]}).json() == made


# What JSON.parse() of JavaScript does to numbers.
def javascript(text):
    return json.loads(text, parse_int=lambda digits: int(float(digits)))


# A click's id comes back, and an event's in general does not.
text = client.get("/api/", {"id": made["id"]}).content
assert javascript(text)["id"] == made["id"] < LARGE
odd = Event.objects.create(name="odd")
while odd.pk < LARGE or odd.pk % 2 == 0:
    odd = Event.objects.create(name="odd")
made = client.post("/api/", {"event": odd.pk}, content_type="application/json")
assert made.json()["event"] == odd.pk != javascript(made.content)["event"]
# As text it does.
assert javascript(json.dumps({"event": str(odd.pk)}))["event"] == str(odd.pk)
made = client.post("/api/", {"event": str(odd.pk)}, content_type="application/json")
assert Click.objects.get(pk=made.json()["id"]).event == odd
"""


@pytest.mark.works("auto-random-range")
def test_large_ids(project):
    project.write("app/__init__.py", "")
    project.write("app/models.py", MODELS)
    project.write("app/urls.py", URLS)
    project.configure(
        *CONTRIB,
        *PLUGINS,
        "app",
        more="""\
        DATABASES = {"default": TIDB}
        ROOT_URLCONF = "app.urls"
        ALLOWED_HOSTS = ["testserver"]
        USE_THOUSAND_SEPARATOR = True
        """,
    )
    project.manage("makemigrations", "app")
    project.manage("migrate")
    for part in (FORMS, SERIALIZERS, API, ADMIN):
        project.shell(SETUP + part)
