from __future__ import annotations

from django.contrib import admin
from django.urls import path
from search.views import search

urlpatterns = [path("", search, name="search"), path("admin/", admin.site.urls)]
