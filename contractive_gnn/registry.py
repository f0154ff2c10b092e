"""One kind of registry for all that has a name: dynamics, fields, models, attacks, datasets, schemes, activations.

A registry loads nothing. Importing a module that registers is enough; the command line and its worker processes import
plug-ins (:mod:`contractive_gnn.plugins`), and nobody else does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, overload

from contractive_gnn.names import UnknownNameError, check_name, same_code, unknown

T = TypeVar("T")
A = TypeVar("A")
D = TypeVar("D")

_NO_DEFAULT: Any = object()


class Registry(Mapping[str, T]):
    """Things by name: a read-only mapping, to which :meth:`register` adds.

    Args:
        kind: what they are, in the singular, for messages.
        joints: what may join the words of a name.

    Example:
        >>> SHAPES: Registry[type] = Registry("shape")
        >>> @SHAPES.register("ring")
        ... class Ring: ...
        >>> SHAPES.names()
        ['ring']
        >>> SHAPES.get("rign")
        Traceback (most recent call last):
        contractive_gnn.names.UnknownNameError: no shape is called 'rign'. Did you mean 'ring'? There are: ring
    """

    #: all that were made, for :func:`transaction`
    every: ClassVar[list[Registry[Any]]] = []

    def __init__(self, kind: str, *, joints: str = "-") -> None:
        self.kind = kind
        self._joints = joints
        self._hidden_by: list[Registry[Any]] = []
        self._things: dict[str, T] = {}
        Registry.every.append(self)

    def register(self, name: str) -> Callable[[A], A]:
        """A decorator that registers what it decorates, and returns it.

        Args:
            name: lower-case words joined by hyphens.

        Raises:
            ValueError: if the name is taken by other code or would be hidden (:meth:`give_way_to`), or has other
                characters. The same code, imported under two names (as a plug-in and as a module, say), may register
                again.
        """
        check_name(name, joints=self._joints)

        def add(thing: A) -> A:
            for other in self._hidden_by:
                if name in other and name not in self:
                    raise ValueError(
                        f"{name} is a {other.kind}'s name, which hides the {self.kind}; register another name"
                    )
            if name in self._things and not same_code(self._things[name], thing):
                raise ValueError(
                    f"the {self.kind} {name!r} is registered already, by {self._things[name]}; choose another name"
                )
            # A is T, of which the decorator must not lose the narrower type (a class stays that very class).
            self._things[name] = thing  # type: ignore[assignment]
            return thing

        return add

    @overload
    def get(self, name: str) -> T: ...

    @overload
    def get(self, name: str, default: D) -> T | D: ...

    def get(self, name: str, default: Any = _NO_DEFAULT) -> Any:
        """What is registered under a name; for an unknown one the default, where one is given.

        Raises:
            UnknownNameError: a ValueError and a KeyError, with the closest name and all that there are.
        """
        if name in self:
            return self._things[name]
        if default is not _NO_DEFAULT:
            return default
        raise UnknownNameError(unknown(self.kind, [name], self._things))

    def give_way_to(self, other: Registry[Any]) -> None:
        """Refuse the names of ``other`` from now on: where both may stand, it is asked first."""
        self._hidden_by.append(other)

    def names(self) -> list[str]:
        """All names, in the order in which they came."""
        return list(self._things)

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def __repr__(self) -> str:
        return f"<registry of {len(self)}, each a {self.kind}: {', '.join(self)}>"


def registered() -> dict[tuple[str, str], Any]:
    """All that is registered now, by kind and name."""
    return {(registry.kind, name): thing for registry in Registry.every for name, thing in registry.items()}


@contextlib.contextmanager
def transaction() -> Iterator[None]:
    """Inside the block all registrations hold together: an error leaves every registry as it was."""
    before = _contents()
    try:
        yield
    except BaseException:
        _restore(before)
        raise


@contextlib.contextmanager
def temporary() -> Iterator[None]:
    """What is registered inside the block is forgotten after it: for tests of what registers."""
    before = _contents()
    try:
        yield
    finally:
        _restore(before)


def _contents() -> list[tuple[Registry[Any], dict[str, Any]]]:
    return [(registry, dict(registry)) for registry in Registry.every]


def _restore(before: list[tuple[Registry[Any], dict[str, Any]]]) -> None:
    for registry, things in before:
        registry._things.clear()
        registry._things.update(things)
