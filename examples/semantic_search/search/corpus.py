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

# Docstrings with fewer words are left out, because they only repeat the name.
MIN_WORDS = 4

# Importing a module of Django raises one of these errors if the module needs an
# optional package, or an app that is not in INSTALLED_APPS.
NEEDS_MORE = (ImportError, ImproperlyConfigured, LookupError, RuntimeError)

# This package is not imported, because each of its modules would search the whole
# system for GDAL before raising an error.
GEODJANGO = "django.contrib.gis"


@dataclass(frozen=True)
class Entry:
    """
    A docstring. `name` is the dotted name of the object that it describes, and `kind`
    is one of ``Document.Kind``.
    """

    name: str
    kind: str
    module: str
    text: str


def collect() -> tuple[list[Entry], list[str]]:
    """
    Return the docstrings of Django's public modules, classes, functions and
    methods, sorted by name and without duplicates. Also return the names of
    the modules that cannot be imported in this project.
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
    Yield `package` and the modules below it. Add the names of modules that cannot be
    imported to `passed_over`.
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
    """Yield the kind, dotted name and object of each definition in `module`."""
    yield "module", module.__name__, module
    for value in _namespace(module, module):
        kind = "class" if inspect.isclass(value) else "function"
        yield kind, f"{module.__name__}.{value.__qualname__}", value
        if kind == "class":
            for method in filter(inspect.isfunction, _namespace(value, module)):
                yield "method", f"{module.__name__}.{method.__qualname__}", method


def _namespace(owner: ModuleType | type, module: ModuleType) -> Iterator[Any]:
    """Yield the classes and functions in `owner` that `module` defines."""
    # Iterate over a copy, because inspect.unwrap() calls hasattr(), which makes some
    # objects write to their namespace.
    for value in list(vars(owner).values()):
        # inspect.unwrap() would evaluate a lazy object, which can need settings that
        # this project does not have.
        if isinstance(value, LazyObject):
            continue
        # Class methods, static methods and decorated functions wrap the function that
        # has the docstring.
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
