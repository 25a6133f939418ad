from __future__ import annotations

from django.contrib import admin

from search.models import Document, SearchLog


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    list_display = ["name", "kind", "embedding"]
    list_filter = ["kind"]
    search_fields = ["name"]


@admin.register(SearchLog)
class SearchLogAdmin(admin.ModelAdmin):
    list_display = ["question", "best_hit", "milliseconds", "created_at"]
    raw_id_fields = ["best_hit"]
