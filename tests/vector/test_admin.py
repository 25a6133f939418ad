from __future__ import annotations

import numpy as np
import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import override_settings
from django.urls import path

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


def test_change(browser, item):
    url = f"/editing/vector/item/{item.pk}/change/"
    form = browser.get(url).context["adminform"].form
    text = form.as_p()
    assert "<details><summary>[0, 0.001, 0.002, …] (1536 dimensions)</summary>" in text
    data = {name: form[name].value() for name in form.fields}
    assert not type(form)(data, instance=item).has_changed()
    response = browser.post(url, {**data, "embedding": "[7, 8, 9]"})
    assert response.status_code == 302
    item.refresh_from_db()
    assert item.embedding.tolist() == [7, 8, 9]
    assert item.other.tobytes() == LONG.tobytes()
    (entry,) = admin.models.LogEntry.objects.all()
    assert entry.get_change_message() == "Changed Embedding."
    response = browser.post(url, {**data, "embedding": "[7, 8]"})
    assert "expected 3 dimensions, not 2" in response.content.decode()


def test_add(browser):
    url = "/editing/vector/item/add/"
    assert "<details>" not in browser.get(url).content.decode()
    assert browser.post(url, {"embedding": "[1, 2, 3]"}).status_code == 302
    assert Item.objects.get().embedding.tolist() == [1, 2, 3]
