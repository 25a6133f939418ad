"""The texts to search: the docstrings of Django itself."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import LazyObject

# A shorter docstring only repeats the name.
MIN_WORDS = 4

# Modules of Django raise these errors if they need an optional package, or an app that
# this project does not install.
NEEDS_MORE = (ImportError, ImproperlyConfigured, LookupError, RuntimeError)

# Each module of GIS would search the whole system for GDAL before raising an error.
GEODJANGO = "django.contrib.gis"


@dataclass(frozen=True)
class Entry:
    """A docstring: `name` is dotted, `kind` is one of ``Document.Kind``."""

    name: str
    kind: str
    module: str
    text: str


def collect() -> tuple[list[Entry], list[str]]:
    """
    Return the docstrings of Django's public modules, classes, functions and
    methods, each once and sorted by name; and the names of the modules that
    cannot be imported here.
    """
    entries: dict[str, Entry] = {}
    passed_over: list[str] = []
    for module in _modules(django, passed_over):
        for kind, name, owner in _definitions(module):
            text = inspect.cleandoc(owner.__doc__ or "")
            if _is_public(name) and _is_written(text, name):
                entries[name] = Entry(name, kind, module.__name__, text)
    return sorted(entries.values(), key=lambda entry: entry.name), passed_over


def _modules(package: ModuleType, passed_over: list[str]) -> Iterator[ModuleType]:
    """
    Yield `package` and the modules below it. Add modules that fail to `passed_over`.
    """
    yield package
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        try:
            module = None if info.name == GEODJANGO else import_module(info.name)
        except NEEDS_MORE:
            module = None
        if module is None:
            passed_over.append(info.name)
        elif info.ispkg:
            yield from _modules(module, passed_over)
        else:
            yield module


def _definitions(module: ModuleType) -> Iterator[tuple[str, str, object]]:
    """Yield kind, dotted name and object of everything that `module` itself defines."""
    yield "module", module.__name__, module
    for value in _namespace(module, module):
        kind = "class" if inspect.isclass(value) else "function"
        yield kind, f"{module.__name__}.{value.__qualname__}", value
        if kind == "class":
            for method in filter(inspect.isfunction, _namespace(value, module)):
                yield "method", f"{module.__name__}.{method.__qualname__}", method


def _namespace(owner: ModuleType | type, module: ModuleType) -> Iterator[Any]:
    """Yield the classes and functions in `owner` that come from `module`."""
    # Iterate over a copy, because hasattr() makes some objects write to their
    # namespace.
    for value in list(vars(owner).values()):
        # inspect would evaluate lazy objects, which need other settings.
        if isinstance(value, LazyObject):
            continue
        # Class methods, static methods and decorated functions are wrappers.
        value = inspect.unwrap(value)
        if not inspect.isclass(value) and not inspect.isfunction(value):
            continue
        if value.__module__ == module.__name__:
            yield value


def _is_public(name: str) -> bool:
    return all(
        part.isidentifier() and not part.startswith("_") for part in name.split(".")
    )


def _is_written(text: str, name: str) -> bool:
    # Models, dataclasses and named tuples get their signature as a generated docstring.
    signature = f"{name.rpartition('.')[2]}("
    return len(text.split()) >= MIN_WORDS and not text.startswith(signature)
