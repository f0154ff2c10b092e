"""Packages that only some of the library needs: the extras of pyproject.toml."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class MissingExtraError(ImportError):
    """A package that an extra brings is not installed; the text names the command that installs it."""


@contextlib.contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Around the imports of what ``extra`` brings: an absent package is named, and how to install it.

    Args:
        extra: a key of ``[project.optional-dependencies]``.
        what: what needs it; the subject of the sentence, such as ``"a download"``.

    Raises:
        MissingExtraError: a package is absent. An error inside of one that is there is raised as it is.

    Example:
        >>> with needs("bench", "a search for aardvarks"):
        ...     import aardvark
        Traceback (most recent call last):
        contractive_gnn.extras.MissingExtraError: a search for aardvarks needs aardvark, which is not installed; \
pip install 'contractive-gnn[bench]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0]
        raise MissingExtraError(
            f"{what} needs {package}, which is not installed; pip install 'contractive-gnn[{extra}]'", name=error.name
        ) from error
