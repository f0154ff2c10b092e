"""Names that people register and type: their form, and the sentence for one that there is not, with the closest."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like ``name``, whatever its capitals; None where none is close."""
    lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(str(name).lower(), lower, n=1)
    return lower[found[0]] if found else None


def unknown(kind: str, given: Sequence[str], known: Iterable[str]) -> str:
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


def check_name(name: object) -> None:
    """Raise ValueError unless ``name`` can be registered: lower-case words joined by hyphens."""
    if not isinstance(name, str) or not all(part.isalnum() and part == part.lower() for part in name.split("-")):
        raise ValueError(f"a name is lower-case words joined by hyphens, like 'gradient-flow', got {name!r}")


def same_code(one: object, other: object) -> bool:
    """Whether two classes or functions are one piece of code, which may have been imported under two names."""
    return one is other or (_source(one) == _source(other) and _source(one)[1] is not None)


def _source(code: object) -> tuple[str | None, str | None]:
    """The file and the qualified name."""
    module = sys.modules.get(getattr(code, "__module__", ""))
    return getattr(module, "__file__", None), getattr(code, "__qualname__", None)
