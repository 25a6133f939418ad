"""The page that shows the documents that are nearest to a question."""

from __future__ import annotations

from time import perf_counter

from django import forms
from django.db import connection
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from django_tidb_vector import (
    CosineDistance,
    L1Distance,
    L2Distance,
    NegativeInnerProduct,
)
from search.embedding import Embedder
from search.models import Document, SearchLog
from search.queries import shorten_vectors, sql_of

HITS = 10

METRICS = {
    "cosine": ("Cosine distance", CosineDistance),
    "l2": ("L2 distance", L2Distance),
    "l1": ("L1 distance", L1Distance),
    "inner": ("Negative inner product", NegativeInnerProduct),
}

#: The embedder for questions. The command demo sets it before it starts the server.
embedder: Embedder | None = None


class SearchForm(forms.Form):
    q = forms.CharField(
        label="Question",
        required=False,
        max_length=200,
        widget=forms.TextInput(
            attrs={
                "autofocus": True,
                "type": "search",
                "placeholder": "how do I run a migration backwards",
            }
        ),
    )
    metric = forms.ChoiceField(
        choices=[(key, label) for key, (label, _) in METRICS.items()], required=False
    )
    module = forms.ChoiceField(required=False)
    like = forms.IntegerField(required=False, widget=forms.HiddenInput)
    explain = forms.BooleanField(required=False, label="Show the SQL and the plan")

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.fields["module"].choices = [("", "all"), *((m, m) for m in _modules())]


def search(request: HttpRequest) -> HttpResponse:
    """
    Show the documents that are nearest to the question ``?q=``, or to the document
    whose primary key is ``?like=``.
    """
    form = SearchForm(request.GET)
    context = {"form": form, "documents": Document.objects.count()}
    if form.is_valid():
        data = form.cleaned_data
        vector = None
        if data["q"]:
            try:
                vector = embedder.embed(data["q"])
            except ValueError as error:
                form.add_error("q", str(error))
        elif data["like"] is not None:
            context["like"] = get_object_or_404(Document, pk=data["like"])
            vector = context["like"].embedding
        if vector is not None:
            context |= _answer(vector, data)
    return render(request, "search/search.html", context)


def _answer(vector: object, data: dict[str, object]) -> dict[str, object]:
    label, metric = METRICS[data["metric"] or "cosine"]
    rows = Document.objects.all()
    if data["module"]:
        inside = Q(module__startswith=f"{data['module']}.")
        rows = rows.filter(Q(module=data["module"]) | inside)
    if not data["q"]:
        rows = rows.exclude(pk=data["like"])
    hits = rows.nearest(vector, metric)[:HITS]
    start = perf_counter()
    found = list(hits)
    answer = {
        "hits": found,
        "label": label,
        "milliseconds": (perf_counter() - start) * 1000,
    }
    if data["q"] and found:
        SearchLog.objects.create(
            question=data["q"], best_hit=found[0], milliseconds=answer["milliseconds"]
        )
    if data["explain"]:
        answer["sql"] = sql_of(hits)
        answer["plan"] = shorten_vectors(hits.explain())
        answer["server"] = connection.tidb_version
    return answer


def _modules() -> list[str]:
    names = Document.objects.values_list("module", flat=True).distinct()
    return sorted({".".join(name.split(".")[:2]) for name in names})
