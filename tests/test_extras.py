"""What says that a package of an extra is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomllib

from contractive_gnn.extras import MissingExtraError, needs


def test_an_absent_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(MissingExtraError) as caught, needs("bench", "a picture"):
        import aardvark.pictures  # type: ignore[import-not-found]  # noqa: F401
    assert str(caught.value) == "a picture needs aardvark, which is not installed; pip install 'contractive-gnn[bench]'"


def test_an_error_inside_of_a_package_is_its_own() -> None:
    with pytest.raises(ImportError, match="cannot import name 'aardvark'") as caught, needs("bench", "a picture"):
        from json import aardvark  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)


def test_the_extras_that_are_named_are_declared(repository: Path) -> None:
    declared = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    folders = [repository / name for name in ("contractive_gnn", "attacks", "datasets")]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    named = {
        part.partition('"')[0]
        for path in sources
        if path.name != "extras.py"
        for part in path.read_text("utf-8").split('needs("')[1:]
    }
    assert "bench" in named
    assert named <= set(declared)
