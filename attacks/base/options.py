"""The hyperparameters of an attack: their names, and checks of what is given."""

from __future__ import annotations

import inspect
import numbers


def check_choice(what: str, given: str, allowed: tuple[str, ...]) -> str:
    """``given``, which must be one of ``allowed``; ValueError otherwise."""
    if given not in allowed:
        raise ValueError(f"{what} is one of {', '.join(map(repr, allowed))}, given {given!r}")
    return given


def check_count(what: str, given: int, *, least: int = 1) -> int:
    """``given``, which must be a whole number ≥ ``least``; TypeError or ValueError otherwise."""
    number: object = given
    if isinstance(number, bool) or not isinstance(number, numbers.Integral):
        raise TypeError(f"{what} is a whole number, given {number!r} ({type(number).__name__})")
    if int(number) < least:
        raise ValueError(f"{what} must be at least {least}, given {given}")
    return int(number)


def name_of(value: object) -> str:
    """What a name or a callable is called: where it stands, for a function or a class."""
    if isinstance(value, str):
        return repr(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def plain(value: object) -> object:
    """A hyperparameter as JSON can hold it: a callable by its name."""
    return name_of(value) if callable(value) else value


def parameters(cls: type[object]) -> list[str]:
    """The names that ``cls`` takes when an object of it is made."""
    return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
