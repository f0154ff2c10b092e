"""Old names that still work, for one release, and say what to write instead."""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

_Callable = TypeVar("_Callable", bound=Callable[..., Any])


def aliases(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module some of whose names have changed.

    Args:
        module: ``__name__`` of the module.
        names: where the old names are now, ``{"Old": "package.module:New"}``.

    Returns:
        a function that answers an old name with what it stands for, under a DeprecationWarning that names the new one,
        and any other name with the AttributeError of Python.

    Example:
        ``__getattr__ = aliases(__name__, {"Siege": "contractive_gnn.certificates.attack:EmpiricalAttack"})``
    """

    def lookup(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = names[name].partition(":")
        warnings.warn(
            f"{module}.{name} is called {place}.{new} now; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(place), new)

    return lookup


def renamed(**words: str) -> Callable[[_Callable], _Callable]:
    """Let a function or a class take an argument under its old word as well.

    Args:
        **words: ``old="new"``; ``new`` is a keyword of the function, ``old`` is none.

    Raises:
        TypeError: (when the function is called) both words are given for one argument.

    Example:
        >>> @renamed(hidden="hidden_channels")
        ... def width(*, hidden_channels: int = 64) -> int:
        ...     return hidden_channels
        >>> width(hidden_channels=16)
        16
    """

    def decorate(target: _Callable) -> _Callable:
        owner: Any = target  # an __init__ has another type in every class
        function = owner.__init__ if inspect.isclass(target) else owner

        @functools.wraps(function)
        def accepts(*args: Any, **kwargs: Any) -> Any:
            for old in words.keys() & kwargs.keys():
                new = words[old]
                if new in kwargs:
                    raise TypeError(f"{target.__name__} was given {old} and {new}, which are one argument; give {new}")
                warnings.warn(
                    f"{target.__name__}({old}=…) is {target.__name__}({new}=…) now; the old word goes with the next "
                    "release",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        if not inspect.isclass(target):
            return cast(_Callable, accepts)
        owner.__init__ = accepts
        return target

    return decorate
