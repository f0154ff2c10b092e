"""Entries of real features move by at most ε, and as many as the budget says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks import AttackResult, Budget, get

EPSILON = 0.05


class Linear(nn.Module):
    """Two classes, scores ±(x w − b): the best corner is known."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        score = x @ self.weight - self.bias
        return torch.stack([score, -score], dim=1)


@pytest.fixture
def problem(graph: Data) -> tuple[Data, Linear]:
    generator = torch.Generator().manual_seed(0)
    graph.x = torch.randn(90, 40, generator=generator)
    weight = torch.randn(40, generator=generator)
    victim = Linear(weight, 0.1)
    graph.y = victim(graph.x, graph.edge_index).argmax(dim=1)
    return graph, victim


def run(graph: Data, victim: nn.Module, flips: int, **options: Any) -> AttackResult:
    return get("linf-features", epsilon=EPSILON, **options).run(graph, Budget(flips=flips), victim=victim)


def wrong(graph: Data, victim: nn.Module, x: Tensor) -> int:
    return int((victim(x, graph.edge_index).argmax(dim=1) != graph.y)[graph.test_mask].sum())


def test_with_all_entries_it_finds_the_best_corner(problem: tuple[Data, Linear]) -> None:
    graph, victim = problem
    after = run(graph, victim, 90 * 40).data.x
    assert float((after - graph.x).abs().max()) <= EPSILON + 1e-6
    away = torch.where(graph.y == 0, -1.0, 1.0)[:, None] * victim.weight.sign()
    most = wrong(graph, victim, graph.x + EPSILON * away)
    assert wrong(graph, victim, after) == most > 0


def test_no_more_entries_change_than_the_budget_says(problem: tuple[Data, Linear]) -> None:
    graph, victim = problem
    errors = []
    for flips in (1, 60, 600):
        result = run(graph, victim, flips, epochs=10)
        assert result.n_flips == result.feature_flips.shape[1] <= flips
        errors.append(wrong(graph, victim, result.data.x))
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


def test_a_masked_gradient_is_told(problem: tuple[Data, Linear]) -> None:
    graph, victim = problem

    class Masked(Linear):
        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
            return super().forward(x.detach(), edge_index)

    told = run(graph, Masked(victim.weight, 0.1), 3600).provenance["params"]["diagnosis"]
    assert told["gradient"] == "zero"
    assert any("masked gradient" in reason for reason in told["unreliable"])


def test_an_epsilon_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon must be positive"):
        get("linf-features", epsilon=0.0)
