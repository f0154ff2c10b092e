from __future__ import annotations

import pytest
import torch

from contractive_gnn.attacks.injection.rows import project_rows, steepest
from contractive_gnn.attacks.whitebox import project_onto_budget


@pytest.mark.parametrize("budget", [0, 1, 3, 20])
def test_each_row_is_projected_as_a_vector_is(budget: int) -> None:
    values = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    found = project_rows(values, budget)
    for row, expected in zip(found, values, strict=True):
        assert torch.allclose(row, project_onto_budget(expected, budget), atol=1e-9)
    assert bool((found.sum(dim=1) <= budget).all())


def test_the_steepest_entries_are_one_on_average_and_none_leads_outside() -> None:
    slope = torch.tensor([[4.0, 4.0, -6.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    at = torch.tensor([[0.5, 0.5, 0.0, 1.0], [0.0, 1.0, 0.5, 0.5]])
    assert steepest(slope, at, 2).tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
