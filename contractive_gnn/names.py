"""Names that people type: the sentence for one that there is not, with the closest that there is."""

from __future__ import annotations

import difflib
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
