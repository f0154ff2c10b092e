"""Every public name has an example: in its own text, or in the file of its package. Each of them runs."""

from __future__ import annotations

import doctest
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from contractive_gnn.registry import temporary

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docs" / "api" / "examples").glob("*.md"))

NEEDED = {"attacks.images": "torchattacks", "integrators": "torchdiffeq", "nn.deeprobust": "deeprobust"}


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    monkeypatch.delitem(sys.modules, "public", raising=False)
    return importlib.import_module("public")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_examples_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if file.stem in NEEDED:
        pytest.importorskip(NEEDED[file.stem])
    monkeypatch.chdir(tmp_path)
    text = file.read_text("utf-8")
    found = 0
    for number, part in enumerate(text.split("```pycon\n")[1:]):
        block = part.partition("```")[0]
        test = doctest.DocTestParser().get_doctest(block, {}, f"{file.stem} {number}", str(file), 0)
        with temporary():  # an example may register
            outcome = doctest.DocTestRunner().run(test)
        assert outcome.failed == 0, test.name
        found += outcome.attempted
    assert found > 2


def test_every_public_name_has_an_example(public: ModuleType) -> None:
    homes = set(public.homes().values())
    assert len(homes) > 400
    without = [
        name for name in homes if ">>>" not in (public.described(name).__doc__ or "") and public.example(name) is None
    ]
    assert sorted(without) == []


def test_every_room_has_a_page(public: ModuleType) -> None:
    listed = (ROOT / "docs" / "api" / "index.md").read_text("utf-8").split()
    assert [room for room in public.ROOMS if room not in listed] == []
