"""Files that a run leaves whole: replaced at once, or appended to line by line, by one run at a time.

A line is handed to the system and flushed to the disk before the next one, so a run that is killed leaves at most one
unfinished line, at the end: :func:`open_alone` cuts it away. A line that the system does not take, on a full disk for
instance, is cut away at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of this kind: two runs in one file are not caught there
    fcntl = None  # type: ignore[assignment]


Line = TypeVar("Line")


class ResultsError(ValueError):
    """A results file that cannot be read or written, or that another run is writing to."""


def json_object(line: str) -> dict[str, Any]:
    """The object that a line of JSON holds.

    Raises:
        ResultsError: it holds none.
    """
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ResultsError(f"not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ResultsError(f"expected a JSON object, got {type(record).__name__}")
    return record


def finished_lines(path: Path, read_line: Callable[[str], Line]) -> list[Line]:
    """What ``read_line`` makes of every finished line, in order; an unfinished last one (no newline) is passed over.

    Raises:
        ResultsError: the file cannot be read, or ``read_line`` raises it; the text names the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror})") from error
    lines = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            lines.append(read_line(line.decode()))
        except (ResultsError, UnicodeDecodeError) as error:
            raise ResultsError(f"{path}, line {number}: {error}; remove or repair that line") from error
    return lines


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to, renamed to ``path`` after the block: a reader finds the old file or the new one.

    It ends as ``path`` does, and is gone after an error. The folder is made where it is missing.

    Raises:
        ResultsError: see :func:`make_folder`.
    """
    make_folder(path.parent)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder of results, and those that it lies in, where they are missing.

    Raises:
        ResultsError: it cannot be made, or there is a file in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(
            f"{folder} cannot be made a folder ({error.strerror}); choose another path (--out)"
        ) from error


def check_folder(folder: Path) -> None:
    """Make a folder of results where it is missing, and find out now whether files can be written to it.

    Raises:
        ResultsError: they cannot.
    """
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResultsError(f"{folder} cannot be written to ({error.strerror}); choose another path (--out)") from error


def open_alone(path: Path) -> FileIO:
    """Open a file of lines for appending, by one run at a time, and cut an unfinished last line away.

    The folder is made where it is missing. The lock ends when the file is closed.

    Raises:
        ResultsError: another run has the file open, or it cannot be written to.
    """
    make_folder(path.parent)
    try:
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise ResultsError(f"{path} cannot be written to ({error.strerror}); choose another path (--out)") from error
    try:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ResultsError(
                    f"another run is writing to {path}; wait for it, stop it, or choose another path (--out)"
                ) from error
        file.truncate(path.read_bytes().rfind(b"\n") + 1)
    except BaseException:
        file.close()
        raise
    return file


def append_line(file: FileIO, line: str) -> None:
    """Append a line, newline included, so that it is on the disk when this returns; or leave the file as it was.

    Args:
        file: of :func:`open_alone`; closed where a part of the line could neither be completed nor cut away.
        line: one line.

    Raises:
        ResultsError: the system does not take it (no space left on the disk, a file too large, …).
    """
    end = os.fstat(file.fileno()).st_size
    left = memoryview(line.encode())
    try:
        while left:  # the system may take a part, and give its reason for the rest at the next try
            taken = file.write(left)
            if not taken:
                raise OSError(errno.EIO, "it takes nothing and gives no reason")
            left = left[taken:]
        os.fsync(file.fileno())
    except BaseException as error:
        try:
            file.truncate(end)
        except OSError:
            file.close()
        if isinstance(error, OSError):
            raise ResultsError(
                f"{file.name} takes no more lines ({error.strerror}); what was there before is whole. "
                "Make room, or choose another path (--out)"
            ) from error
        raise
