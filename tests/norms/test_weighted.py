"""Weights on entries and rows."""

import pytest
import torch

from contractive_gnn.norms import L1, L2, LInf, Norm, Sum, Weighted, as_norm, vector_norm, weak_pairing

W = torch.tensor([1.0, 4.0])


@pytest.mark.parametrize("base", [L1, L2, LInf])
def test_it_is_the_norm_of_the_name_with_these_weights(base: Norm) -> None:
    x, y = torch.tensor([[3.0, -4.0], [0.5, 1.0]]), torch.tensor([[1.0, 2.0], [-3.0, 0.25]])
    norm = Weighted(base, W)  # type: ignore[arg-type]
    assert torch.equal(norm(x), vector_norm(x, str(base), weight=W))
    assert torch.equal(norm.pairing(y, x), weak_pairing(y, x, str(base), weight=W))
    assert norm.weights(x).tolist() == [[1.0], [4.0]]  # type: ignore[union-attr]
    step = norm.dual(y)
    best = float((y * step).sum() / norm(step))
    for seed in range(20):
        d = torch.randn(2, 2, generator=torch.Generator().manual_seed(seed))
        assert float((y * d).sum() / norm(d)) <= best + 1e-6
    assert str(norm) == f"weighted {base}"


def test_equal_weights_make_equal_norms() -> None:
    assert Weighted(L2, W) == Weighted(L2, W.clone(), "l2-degree")
    assert hash(Weighted(L2, W)) == hash(Weighted(L2, W.clone()))
    assert Weighted(L2, W) != Weighted(L2, 2 * W)
    assert Weighted(L2, W) != Weighted(L1, W)
    assert Weighted(L2, W) != Weighted(L2, W.unsqueeze(-1))
    assert Weighted(L2, W) != L2


def test_weights_are_checked() -> None:
    with pytest.raises(ValueError, match="weight must have the shape of x"):
        Weighted(L2, W)(torch.ones(3))
    with pytest.raises(ValueError, match="weight must be positive and finite"):
        Weighted(L2, -W)(torch.ones(2))
    with pytest.raises(TypeError, match="weights go to l1, l2 or linf"):
        Weighted(2.0 * L2, W)  # type: ignore[arg-type]


def test_names_and_objects_become_objects() -> None:
    assert as_norm("linf") == LInf
    assert as_norm(L2) is L2
    assert as_norm("l2-degree", W) == Weighted(L2, W)
    assert str(as_norm("l2-degree", W)) == "l2-degree"
    assert as_norm(L1, W) == Weighted(L1, W)
    for norm in (Weighted(L2, W), Sum(LInf, L1), 2.0 * L2):
        with pytest.raises(ValueError, match="has its own weights: pass weight=None"):
            as_norm(norm, W)
    with pytest.raises(TypeError, match="norm must be a name or a Norm, got int"):
        as_norm(2)  # type: ignore[arg-type]
