"""What decides what a class or a function of this process does, as one text.

A model of a process is in no file whose digest could be taken. Its own source is not enough: a lambda in a loop has one
source and another width in its closure, and a class that was changed in a notebook has the name that it had.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterator
from typing import Any, Final

_PLAIN: Final = (int, float, complex, str, bytes, type(None))
#: whose code is told by their version, which the results have
_PACKAGES: Final = ("builtins", "abc", "typing", "collections", "torch", "torch_geometric", "numpy", "contractive_gnn")


def code_of(factory: Any) -> str:
    """Its source, and what that reaches: bases, closures, defaults, arguments of a partial, and globals by name.

    Of another object it is the ``repr``, which may be another in the next process: then a model is measured anew.
    """
    return "\n".join(_parts(factory, set()))


def _parts(thing: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(thing, _PLAIN):
        yield repr(thing)
        return
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, list | tuple | set | frozenset):
        for each in thing:
            yield from _parts(each, seen)
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield repr(key)
            yield from _parts(value, seen)
    elif isinstance(thing, functools.partial):
        for each in (thing.func, thing.args, thing.keywords):
            yield from _parts(each, seen)
    elif isinstance(thing, types.ModuleType):
        yield thing.__name__
    elif isinstance(thing, type | types.FunctionType | types.MethodType):
        yield from _code(thing, seen)
    else:
        yield repr(thing)


def _code(thing: Any, seen: set[int]) -> Iterator[str]:
    yield f"{thing.__module__}.{thing.__qualname__}"
    if thing.__module__.partition(".")[0] in _PACKAGES:
        return
    try:
        yield inspect.getsource(inspect.unwrap(thing))
    except (OSError, TypeError):  # typed into an interpreter
        yield repr(thing)
    if isinstance(thing, type):
        for base in thing.__bases__:
            yield from _parts(base, seen)
        for value in vars(thing).values():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if isinstance(function, types.FunctionType):
                yield from _reached(function, seen)
        return
    if isinstance(thing, types.MethodType):
        yield from _parts(thing.__self__, seen)
    yield from _reached(inspect.unwrap(thing), seen)


def _reached(function: Any, seen: set[int]) -> Iterator[str]:
    """The values that a function finds elsewhere than in its source."""
    function = getattr(function, "__func__", function)
    for values in (function.__defaults__, function.__kwdefaults__):
        yield from _parts(values, seen)
    for cell in function.__closure__ or ():
        try:
            yield from _parts(cell.cell_contents, seen)
        except ValueError:  # not filled yet
            continue
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield from _parts(function.__globals__[name], seen)


def _names(code: types.CodeType) -> Iterator[str]:
    """The globals and attributes that it names, and those of the functions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
