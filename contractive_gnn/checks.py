"""What a number or a flag that someone passes must be. NaN passes ``if mu < 0``; it passes nothing here."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence


def check_real(
    name: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Raise unless ``value`` is a finite real number, and no bool, within the bounds that are given.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    number = float(value)
    if above == 0 and most is below is None:
        wanted = "positive"
    else:
        given = (("at least", least), ("above", above), ("at most", most), ("below", below))
        wanted = " and ".join(f"{word} {bound:g}" for word, bound in given if bound is not None)
    inside = (
        (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
        and (below is None or number < below)
    )
    if not (inside and math.isfinite(number)):
        raise ValueError(f"{name} must be {'finite' if inside or not wanted else wanted}, got {value!r}")


def check_whole(name: str, value: object, *, least: int | None = None, below: int | None = None) -> None:
    """Raise unless ``value`` is a whole number, and no bool, within the bounds that are given.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r} ({type(value).__name__})")
    if least is not None and int(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    if below is not None and int(value) >= below:
        raise ValueError(f"{name} must be below {below}, got {value!r}")


def whole_pair(name: str, value: object, *, least: int) -> tuple[int, int]:
    """One whole number for both axes of an image, or one for each: a list or a tuple of two.

    Raises:
        TypeError: it is neither.
        ValueError: a number is too small.
    """
    first, second = value if isinstance(value, Sequence) and len(value) == 2 else (value, value)
    for number in (first, second):
        if isinstance(number, Sequence):
            raise TypeError(f"{name} must be a whole number, or two of them, got {value!r}")
        check_whole(name, number, least=least)
    return int(first), int(second)  # type: ignore[arg-type]


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is True or False: a word, ``"False"`` too, counts as true everywhere else."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")


def check_widths(in_channels: object, **widths: object) -> None:
    """Raise unless ``in_channels`` is a whole number of at least 1 (or -1: inferred), and so are the others.

    Raises:
        TypeError: one is no whole number.
        ValueError: one is too small.
    """
    if in_channels != -1:
        check_whole("in_channels", in_channels, least=1)
    for name, width in widths.items():
        check_whole(name, width, least=1)
