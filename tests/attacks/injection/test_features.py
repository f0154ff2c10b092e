from __future__ import annotations

import torch
from torch_geometric.data import Data

from contractive_gnn.attacks.injection import FeatureRange


def test_words_are_the_largest_entries(graph: Data) -> None:
    allowed = FeatureRange.of(graph.x, "words")
    assert allowed.words is not None
    x = torch.rand(5, 40, generator=torch.Generator().manual_seed(0))
    relaxed = allowed.inside(3 * x)
    assert bool((relaxed.sum(dim=1) <= allowed.words + 1e-4).all())
    ones = allowed.rounded(relaxed)
    assert allowed.broken(ones) == ""
    for row, chosen in zip(relaxed, ones, strict=True):
        assert float(row[chosen == 1].min()) >= float(row[chosen == 0].max())


def test_a_column_of_one_value_keeps_it() -> None:
    x = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    for rule in ("range", "words"):
        allowed = FeatureRange.of(x, rule)
        new = allowed.rounded(allowed.inside(torch.tensor([[0.0, 5.0, 0.3]])))
        assert new[0, :2].tolist() == [1.0, 0.0]
        assert allowed.broken(new) == ""


def test_numbers_stay_between_those_of_their_column() -> None:
    x = torch.tensor([[-1.0, 4.0], [3.0, 5.0]])
    assert FeatureRange.of(x).inside(torch.tensor([[-9.0, 9.0]])).tolist() == [[-1.0, 5.0]]
