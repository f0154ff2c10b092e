from __future__ import annotations

import pytest
import torch

from contractive_gnn.attacks.whitebox import (
    LOSSES,
    margin,
)


class TestLosses:
    def test_the_margin_is_positive_where_the_prediction_is_wrong(self) -> None:
        logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.5]])
        assert margin(logits, torch.tensor([0, 2])).tolist() == [-1.0, 0.5]

    @pytest.mark.parametrize("name", LOSSES)
    def test_they_grow_with_the_margin_of_a_correct_node(self, name: str) -> None:
        logits = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
        (slope,) = torch.autograd.grad(LOSSES[name](logits, torch.tensor([0])), logits)
        assert slope[0, 0] < 0 < slope[0, 1]
