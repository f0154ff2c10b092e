from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from contractive_gnn.bench.results import Result


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Result]:
    """A finished result with plain values, each of which can be set by name."""

    def make(**changes: Any) -> Result:
        values: dict[str, Any] = {
            "dataset": "cora",
            "split": "prognn",
            "split_seed": 0,
            "model": "gcn",
            "attack": "metattack",
            "threat": "poisoning",
            "budget": 0.25,
            "budget_unit": "fraction of edges",
            "seed": 0,
            "hyperparameters": {"model": {"hidden_channels": 16}, "training": {"epochs": 200}, "attack": {}},
            "accuracy": 50.0,
            "clean_accuracy": 80.0,
            "evaluated_on": "test",
            "n_evaluated": 1988,
            "attack_source": "published",
            "flips": 1267,
            "unreliable": [],
            "train_s": 1.5,
            "attack_s": 0.0,
            "commit": "c0ffee",
            "uncommitted_changes": False,
            "versions": {"python": "3.11", "torch": "2.14"},
            "device": "cpu",
        }
        unknown = set(changes) - set(values)
        assert not unknown, f"no such field: {unknown}"
        if changes.get("attack") == "clean":
            values |= {
                "threat": "evasion",
                "budget": 0,
                "budget_unit": "none",
                "attack_source": "generated",
                "flips": 0,
            }
        return Result(**{**values, **changes})

    return make


def _chromium() -> ModuleType:
    """The file beside this one, which is no package that could be imported by name."""
    spec = importlib.util.spec_from_file_location("chromium", Path(__file__).with_name("chromium.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium of :mod:`chromium`; where there is none the test is skipped, and says so."""
    chromium = _chromium()
    if chromium.executable() is None:
        pytest.skip("there is no Chromium here (apt-get install chromium): the page is not tried in a browser")
    with chromium.Chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def drawing_library() -> None:
    """Skip a test that needs the library which draws the pages and their PNG files."""
    pytest.importorskip("vl_convert", reason="vl-convert-python is not here: nothing interactive is drawn")
