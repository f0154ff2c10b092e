"""One kind of registry for all that has a name: dynamics, fields, models, attacks, datasets, schemes, activations.

It loads nothing: plug-ins are imported by the command line and by its worker processes
(:mod:`contractive_gnn.plugins`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from contractive_gnn.names import check_name, same_code, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Things by name.

    Args:
        kind: what they are, in the singular, for messages.
    """

    #: all that were made, for :func:`transaction`
    every: ClassVar[list[Registry[Any]]] = []

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}
        Registry.every.append(self)

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers what it decorates, and returns it.

        Args:
            name: lower-case words joined by hyphens.

        Raises:
            ValueError: if the name is taken by other code, or has other characters. The same code, imported under two
                names (as a plug-in and as a module, say), may register again.
        """
        check_name(name)

        def add(thing: T) -> T:
            if name in self._things and not same_code(self._things[name], thing):
                raise ValueError(
                    f"the {self.kind} {name!r} is registered already, by {self._things[name]}; choose another name"
                )
            self._things[name] = thing
            return thing

        return add

    def get(self, name: str) -> T:
        """What is registered under a name.

        Raises:
            ValueError: for an unknown name, with the closest one and all that there are.
        """
        if name not in self._things:
            raise ValueError(unknown(self.kind, [name], self._things))
        return self._things[name]

    def names(self) -> list[str]:
        """All names, in the order in which they came."""
        return list(self._things)

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


@contextlib.contextmanager
def transaction() -> Iterator[None]:
    """Inside the block all registrations hold together: an error leaves every registry as it was."""
    before = [(registry, dict(registry._things)) for registry in Registry.every]
    try:
        yield
    except BaseException:
        for registry, things in before:
            registry._things.clear()
            registry._things.update(things)
        raise
