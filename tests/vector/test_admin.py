from __future__ import annotations

import re

import numpy as np
import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import override_settings
from django.urls import path

from django_tidb_vector.forms import VectorFormField

from .models import Item

pytestmark = [pytest.mark.works("vector"), pytest.mark.django_db]

VECTOR = np.float32([0.123456, 2, 3])
LONG = np.arange(1536, dtype=np.float32) / 1000


class ItemAdmin(admin.ModelAdmin):
    list_display = ["pk", "embedding", "other"]


class ReadOnlyAdmin(admin.ModelAdmin):
    readonly_fields = ["embedding", "other"]


site = admin.AdminSite("editing")
site.register(Item, ItemAdmin)
reading = admin.AdminSite("reading")
reading.register(Item, ReadOnlyAdmin)
urlpatterns = [path("editing/", site.urls), path("reading/", reading.urls)]


@pytest.fixture
def browser(client):
    client.force_login(User.objects.create_superuser("ada"))
    with override_settings(ROOT_URLCONF=__name__):
        yield client


@pytest.fixture
def item():
    return Item.objects.create(embedding=VECTOR, other=LONG)


def test_list(browser, item):
    Item.objects.create()
    text = browser.get("/editing/vector/item/").content.decode()
    assert ">[0.1235, 2, 3] (3 dimensions)<" in text
    assert ">[0, 0.001, 0.002, …] (1536 dimensions)<" in text
    assert "0.003" not in text


def test_read_only(browser, item):
    text = browser.get(f"/reading/vector/item/{item.pk}/change/").content.decode()
    assert "[0.1235, 2, 3] (3 dimensions)" in text
    assert "[0, 0.001, 0.002, …] (1536 dimensions)" in text
    assert "0.003" not in text
    nothing = Item.objects.create()
    text = browser.get(f"/reading/vector/item/{nothing.pk}/change/").content.decode()
    assert '<div class="readonly">-</div>' in text


def posted(html):
    """Return the data that a browser posts for a form without changes."""
    inputs = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', html)
    areas = re.findall(r'<textarea name="([^"]+)"[^>]*>\s*([^<]*)</textarea>', html)
    return dict(inputs + areas)


def test_change(browser, item):
    url = f"/editing/vector/item/{item.pk}/change/"
    form = browser.get(url).context["adminform"].form
    text = form.as_p()
    assert "[0, 0.001, 0.002, …] (1536 dimensions)" in text
    assert not re.search(r"(\d\.\d+,\s*){4}", text)
    untouched = posted(text)
    assert untouched["other"] == ""
    assert not type(form)(untouched, instance=item).has_changed()
    response = browser.post(url, {**untouched, "embedding": "[7, 8, 9]"})
    assert response.status_code == 302
    item.refresh_from_db()
    assert item.embedding.tolist() == [7, 8, 9]
    assert item.other.tobytes() == LONG.tobytes()
    (entry,) = admin.models.LogEntry.objects.all()
    assert entry.get_change_message() == "Changed Embedding."


def test_change_as_json(browser, item):
    url = f"/editing/vector/item/{item.pk}/change/"
    form = browser.get(url).context["adminform"].form
    data = {name: form[name].value() for name in form.fields}
    assert not type(form)(data, instance=item).has_changed()
    response = browser.post(url, {**data, "embedding": "[7, 8]"})
    text = response.content.decode()
    assert "expected 3 dimensions, not 2" in text
    # The other field keeps its posted value.
    again = {**posted(text), "embedding": data["embedding"]}
    assert again["other"] == ""
    assert not type(form)(again, instance=item).has_changed()


@pytest.mark.parametrize("current", ["AAAAAA", "AAAA", "é", "AADAfw=="])
def test_damaged_hidden_input(browser, item, current):
    url = f"/editing/vector/item/{item.pk}/change/"
    response = browser.post(url, {"embedding": "[1, 2, 3]", "other-current": current})
    assert "Enter a valid vector" in response.content.decode()


def test_clear(browser, item):
    url = f"/editing/vector/item/{item.pk}/change/"
    text = browser.get(url).context["adminform"].form.as_p()
    assert 'name="other-clear"' in text
    browser.post(url, {**posted(text), "other-clear": "on"})
    item.refresh_from_db()
    assert item.other is None
    assert item.embedding.tobytes() == VECTOR.tobytes()


def test_what_is_there_survives_a_bad_paste(browser, item):
    url = f"/editing/vector/item/{item.pk}/change/"
    data = posted(browser.get(url).context["adminform"].form.as_p())
    response = browser.post(url, {**data, "other": "[oops <"})
    assert "Enter a valid vector" in response.content.decode()
    text = response.context["adminform"].form.as_p()
    assert "[oops &lt;</textarea>" in text
    again = posted(text)
    assert browser.post(url, {**again, "other": ""}).status_code == 302
    item.refresh_from_db()
    assert item.other.tobytes() == LONG.tobytes()


def test_required():
    class Form(forms.Form):
        vector = VectorFormField(dimensions=1536)

    text = Form(initial={"vector": LONG}).as_p()
    assert "clear" not in text
    assert " required" not in text
    assert Form(posted(text), initial={"vector": LONG}).is_valid()
    assert " required" in Form().as_p()
    assert not Form({"vector": ""}).is_valid()


def test_add(browser):
    url = "/editing/vector/item/add/"
    assert "current" not in browser.get(url).context["adminform"].form.as_p()
    assert browser.post(url, {"embedding": "[1, 2, 3]"}).status_code == 302
    assert Item.objects.get().embedding.tolist() == [1, 2, 3]
