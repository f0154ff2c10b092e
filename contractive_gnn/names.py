"""Names that people register and type: their form, and the sentence for one that there is not, with the closest."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import partial


class UnknownNameError(ValueError, KeyError):
    """Nothing is registered under this name; the text has the closest one and all that there are."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would quote it


def closest(name: object, known: Iterable[str]) -> str | None:
    """The known name that looks most like ``name``, whatever its capitals; None where none is close."""
    lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(str(name).lower(), lower, n=1)
    return lower[found[0]] if found else None


def unknown(kind: str, given: Sequence[object], known: Iterable[str]) -> str:
    """``no model is called 'gnn'. Did you mean 'gcn'? There are: …``

    Args:
        kind: what the names are of, in the singular.
        given: one or more names that are not known.
        known: those that are.
    """
    known = sorted(known)
    close = dict.fromkeys(match for name in given if (match := closest(name, known)) is not None)
    hint = f" Did you mean {' and '.join(map(repr, close))}?" if close else ""
    return f"no {kind} is called {', '.join(map(repr, given))}.{hint} There are: {', '.join(known)}"


def check_name(name: object, *, joints: str = "-") -> None:
    """Raise ValueError unless ``name`` can be registered: lower-case words joined by hyphens (or other ``joints``)."""
    words = name.translate(str.maketrans(joints, "-" * len(joints))).split("-") if isinstance(name, str) else [""]
    if not all(word.isalnum() and word == word.lower() for word in words):
        raise ValueError(f"a name is lower-case words joined by hyphens, like 'gradient-flow', got {name!r}")


def same_code(one: object, other: object) -> bool:
    """Whether two classes, functions, partial functions or rows are one code, perhaps imported under two names.

    Functions that one function made are the same code only if they hold equal values: each of them does something else.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, partial) and isinstance(other, partial):
        return _same((one.func, one.args, one.keywords), (other.func, other.args, other.keywords))
    if is_dataclass(one) and not isinstance(one, type):
        return all(_same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    source = _source(one)
    return source is not None and source == _source(other) and _same(_held(one), _held(other))


def _same(one: object, other: object) -> bool:
    """Equal, where what is called is compared by its code."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return same_code(one, other) if callable(one) else bool(one == other)


def _source(code: object) -> tuple[str, str, int | None] | None:
    """The file, the qualified name and, of a function, the line; None where they cannot be told."""
    file = getattr(sys.modules.get(getattr(code, "__module__", "")), "__file__", None)
    name = getattr(code, "__qualname__", None)
    if file is None or name is None:
        return None
    return file, name, getattr(getattr(code, "__code__", None), "co_firstlineno", None)


def _held(code: object) -> tuple[object, ...]:
    """What a function made by another one took from there."""
    return tuple(cell.cell_contents for cell in getattr(code, "__closure__", None) or ())
