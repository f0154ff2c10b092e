from __future__ import annotations

import pytest
import torch

from contractive_gnn.certify import FeatureBudget, FlipBudget


def test_a_fraction_of_the_degree_is_rounded_down() -> None:
    star = torch.tensor([[0] * 10 + list(range(1, 11)), [*range(1, 11), *[0] * 10]])
    assert FlipBudget.fraction(0.25, star, 12).per_node.tolist() == [2] + [0] * 11
    assert FlipBudget.fraction(0.3, star, 12).per_node.tolist()[0] == 3  # 0.3 · 10 is just below 3 in float64
    assert FlipBudget.fraction(1.0, star, 12).per_node.tolist() == [10] + [1] * 10 + [0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"per_node": torch.tensor([1, -1])}, "at least 0"),
        ({"per_node": torch.tensor([0.5])}, "whole number"),
        ({"per_node": torch.tensor([[1]])}, "whole number"),
        ({"per_node": torch.tensor([1]), "additions": False, "deletions": False}, "additions or deletions"),
        ({"per_node": torch.tensor([1]), "total": -1}, "total"),
    ],
)
def test_a_meaningless_budget_is_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FlipBudget(**arguments)  # type: ignore[arg-type]


def test_a_meaningless_fraction_or_feature_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="fraction"):
        FlipBudget.fraction(-0.1, torch.zeros(2, 0, dtype=torch.long), 3)
    for wrong in ({"linf": -1.0}, {"flips": -1}, {"linf": float("nan")}, {"linf": 0.1, "flips": 1}):
        with pytest.raises(ValueError, match=r"budgets|linf"):
            FeatureBudget(**wrong)  # type: ignore[arg-type]
    assert FeatureBudget().empty
    assert not FeatureBudget(flips=1).empty
