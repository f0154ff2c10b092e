"""When a gradient attack stands still, and what a call is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from contractive_gnn.attacks import Budget, get
from contractive_gnn.datasets import contextual_sbm
from contractive_gnn.nn import GCNClassifier


@pytest.fixture
def evasion(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(repository / "docs" / "experiments"))
    yield importlib.import_module("evasion")
    for name in ("evasion", "appending"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("errors", "longest", "runs", "still"),
    [
        ([5, 5, 5, 9], 8, 3, True),
        ([5, 6, 6, 7, 7, 6, 9], 8, 6, True),
        ([5, 6, 6, 7], 4, 4, False),
        ([5, 6, 7, 7, 7], 5, 5, False),
    ],
)
def test_an_attack_stands_still_once_longer_runs_find_no_more(
    evasion: ModuleType, errors: list[int], longest: int, runs: int, still: bool
) -> None:
    asked: list[int] = []

    def run(length: int) -> int:
        asked.append(length)
        return errors[len(asked) - 1]

    found = evasion.standing_still(run, longest)
    assert found["errors_of_runs"] == errors[:runs]
    assert asked == [2**k for k in range(runs)]
    assert (found["errors"], found["still"]) == (max(errors[:runs]), still)


def test_the_counted_model_answers_as_its_own(evasion: ModuleType) -> None:
    data = contextual_sbm(60, seed=0)
    torch.manual_seed(0)
    model = GCNClassifier(data.num_features, 4).eval().requires_grad_(False)
    edge_weight = torch.rand(data.num_edges)
    own = [model(data.x, data.edge_index), model(data.x, data.edge_index, edge_weight)]
    counted = evasion.Counted(model, data.x).eval()
    evasion.Counted.calls = evasion.Counted.gradients = 0
    assert torch.allclose(counted(data.x, data.edge_index), own[0], atol=1e-6)
    assert torch.allclose(counted(data.x, data.edge_index, edge_weight), own[1], atol=1e-6)
    assert (evasion.Counted.calls, evasion.Counted.gradients) == (2, 0)
    get("whitebox-pgd", epochs=3, fine_epochs=1, samples=0, swaps=2).run(data, Budget(flips=3), victim=counted)
    assert evasion.Counted.gradients == 3 + 1 + 2 + 1  # steps, exchanges, and one to look at the victim
