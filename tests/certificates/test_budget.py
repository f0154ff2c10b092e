from __future__ import annotations

import pytest
import torch

from contractive_gnn.certificates import FeatureBudget, FlipBudget


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
        ({"per_node": torch.tensor([True])}, "whole number"),
        ({"per_node": [1, 1]}, "a tensor"),
        ({"per_node": torch.tensor([1]), "additions": False, "deletions": False}, "additions or deletions"),
        ({"per_node": torch.tensor([1]), "total": -1}, "total"),
        ({"per_node": torch.tensor([1]), "total": 1.5}, "total"),
    ],
)
def test_a_meaningless_budget_is_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FlipBudget(**arguments)  # type: ignore[arg-type]


def test_a_meaningless_fraction_or_feature_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="fraction"):
        FlipBudget.fraction(-0.1, torch.zeros(2, 0, dtype=torch.long), 3)
    for wrong in ({"linf": -1.0}, {"flips": -1}, {"flips": 0.5}, {"linf": float("nan")}, {"linf": 0.1, "flips": 1}):
        with pytest.raises(ValueError, match=r"budgets|linf|flips"):
            FeatureBudget(**wrong)  # type: ignore[arg-type]
    assert FeatureBudget().empty
    assert not FeatureBudget(flips=1).empty


@pytest.mark.parametrize("flips", [4, 5, 10**7, 2**63 - 1, 10**30])
def test_more_flips_than_a_node_has_pairs_are_all_of_them(flips: int) -> None:
    budget = FlipBudget.uniform(flips, 5, total=flips)
    assert budget.per_node.tolist() == [4] * 5
    assert budget.total == min(flips, 10)
    large = torch.tensor([min(flips, 2**63 - 1), 0])
    assert FlipBudget(large).per_node.tolist() == [1, 0]
    assert FlipBudget.uniform(flips, 1).per_node.tolist() == [0]


def test_every_integer_type_counts_and_a_fraction_cannot_overflow() -> None:
    for kind in (torch.int8, torch.uint8, torch.int32):
        assert FlipBudget(torch.tensor([1, 0, 2], dtype=kind)).per_node.tolist() == [1, 0, 2]
    pair = torch.tensor([[0, 1], [1, 0]])
    assert FlipBudget.fraction(1e300, pair, 3).per_node.tolist() == [2, 2, 0]
    for wrong in (1.5, -1, "3", None, True):
        with pytest.raises(ValueError, match="whole number"):
            FlipBudget.uniform(wrong, 3)  # type: ignore[arg-type]


def test_the_degrees_of_a_fraction_are_those_of_a_simple_graph() -> None:
    pair = torch.tensor([[0, 1], [1, 0]])
    matrix = torch.sparse_coo_tensor(pair, torch.ones(2), (3, 3)).coalesce()
    assert FlipBudget.fraction(1.0, matrix, 3).per_node.tolist() == [1, 1, 0]
    for wrong in (pair[:, :1], torch.cat([pair, pair], dim=1), matrix * 2):
        with pytest.raises(ValueError, match=r"directed|twice|weights"):
            FlipBudget.fraction(1.0, wrong, 3)
