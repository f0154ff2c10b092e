"""The attacks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args, overload

from contractive_gnn.attacks.base.attack import Attack
from contractive_gnn.attacks.base.kinds import Kind, Knowledge, Scope
from contractive_gnn.attacks.base.options import parameters
from contractive_gnn.registry import Registry

ATTACKS: Registry[type[Attack]] = Registry("attack")

_AttackType = TypeVar("_AttackType", bound=type[Attack])


@overload
def register(name: _AttackType) -> _AttackType: ...


@overload
def register(name: str) -> Callable[[_AttackType], _AttackType]: ...


def register(name: Any) -> Any:
    """Class decorator: make an attack available by its name in :data:`ATTACKS` and :func:`get`.

    Args:
        name: of the attack, lower-case words joined by hyphens, which becomes its class attribute ``name``; or the
            class itself (``@register`` without a name), which has that attribute.

    Raises:
        TypeError: a class attribute is missing or is not one of the allowed words.
        ValueError: the name is taken by other code, is not of lower-case words joined by hyphens, or is not the class
            attribute ``name`` where that is set.
    """
    if not isinstance(name, str):
        return _add(name)

    def add(cls: _AttackType) -> _AttackType:
        own = cls.__dict__.get("name", name)
        if own != name:
            raise ValueError(f"{cls.__name__}.name is {own!r}, and it is registered as {name!r}; leave one of them out")
        cls.name = name
        return _add(cls)

    return add


def _add(cls: _AttackType) -> _AttackType:
    for attribute, words in (("kind", Kind), ("scope", Scope), ("knowledge", Knowledge)):
        if getattr(cls, attribute, None) not in get_args(words):
            raise TypeError(
                f"{cls.__name__}.{attribute} is one of {get_args(words)}, given {getattr(cls, attribute, None)!r}"
            )
    if not isinstance(getattr(cls, "name", None), str):
        raise TypeError(f"{cls.__name__}.name is missing; set it, or write @register('my-attack')")
    return ATTACKS.register(cls.name)(cls)


def get(name: str, **hyperparameters: Any) -> Attack:
    """The attack called ``name``, built with ``hyperparameters`` (and ``seed``).

    Raises:
        ValueError: there is no such attack; the text lists those that there are.
        TypeError: it takes no such hyperparameter; the text lists those that it takes.
    """
    cls = ATTACKS.get(name)
    strange = sorted(set(hyperparameters) - set(parameters(cls)))
    if strange:
        raise TypeError(f"attack {name!r} takes no {', '.join(strange)}; it takes: {', '.join(parameters(cls))}")
    return cls(**hyperparameters)
