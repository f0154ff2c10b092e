"""An attack hurts most whom it was made for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def test_own_attacks_are_the_worst(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("transfer_matrix")
    clean, attacked = shown["matrix"][0], shown["matrix"][1:]
    assert bool((attacked.diagonal() < clean[:-1] - 10).all())
    assert torch.equal(attacked.argmin(dim=0)[:-1], torch.arange(len(attacked)))
    assert bool((attacked[:, -1] == clean[-1]).all())  # of the model that reads no edge
