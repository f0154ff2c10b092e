"""Vector fields of any domain by name, ours and other people's: each is a row of ``contractive-gnn verify``.

Importing a module that registers is all: nothing is loaded here. A dynamics on graphs is registered in
:mod:`contractive_gnn.dynamics.registry`, since it needs a graph before it is a field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.registry import Registry

FieldFactory = Callable[[], VectorField]
"""Builds a field with small states, for those who try to break its claims: it defines ``state``."""

FIELDS: Registry[FieldFactory] = Registry("field")

F = TypeVar("F", bound=FieldFactory)


def register_field(name: str) -> Callable[[F], F]:
    """Register a class or a function ``() -> VectorField`` under a name.

    Args:
        name: lower-case words joined by hyphens, not that of a dynamics.

    Raises:
        ValueError: if the name is taken by other code, or has other characters.

    Example:
        >>> @register_field("turn")
        ... class Turn(VectorField): ...
    """
    return FIELDS.register(name)
