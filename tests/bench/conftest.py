from __future__ import annotations

from collections.abc import Callable
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
