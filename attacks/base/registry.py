"""The attacks by name."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from contractive_gnn.attacks.base.attack import Attack
from contractive_gnn.attacks.base.kinds import Kind, Knowledge, Scope
from contractive_gnn.attacks.base.options import parameters
from contractive_gnn.names import check_name, same_code, unknown

ATTACKS: dict[str, type[Attack]] = {}

_AttackType = TypeVar("_AttackType", bound=type[Attack])


def register(cls: _AttackType) -> _AttackType:
    """Class decorator: make an attack available by its ``name`` in :data:`ATTACKS` and :func:`get`.

    Raises:
        TypeError: a class attribute is missing or is not one of the allowed words.
        ValueError: the name is taken by other code, or is not of lower-case words joined by hyphens.
    """
    for attribute, words in (("kind", Kind), ("scope", Scope), ("knowledge", Knowledge)):
        if getattr(cls, attribute, None) not in get_args(words):
            raise TypeError(
                f"{cls.__name__}.{attribute} is one of {get_args(words)}, given {getattr(cls, attribute, None)!r}"
            )
    if not isinstance(getattr(cls, "name", None), str):
        raise TypeError(f"{cls.__name__}.name is missing")
    check_name(cls.name)
    if cls.name in ATTACKS and not same_code(ATTACKS[cls.name], cls):
        raise ValueError(f"the attack name {cls.name!r} is taken by {ATTACKS[cls.name].__name__}")
    ATTACKS[cls.name] = cls
    return cls


def get(name: str, **hyperparameters: Any) -> Attack:
    """The attack called ``name``, built with ``hyperparameters`` (and ``seed``).

    Raises:
        ValueError: there is no such attack; the text lists those that there are.
        TypeError: it takes no such hyperparameter; the text lists those that it takes.
    """
    if name not in ATTACKS:
        raise ValueError(unknown("attack", [name], ATTACKS))
    cls = ATTACKS[name]
    strange = sorted(set(hyperparameters) - set(parameters(cls)))
    if strange:
        raise TypeError(f"attack {name!r} takes no {', '.join(strange)}; it takes: {', '.join(parameters(cls))}")
    return cls(**hyperparameters)
