"""A value is kept exactly as long as the tensors that it came from."""

from __future__ import annotations

import copy
import pickle

import torch

from contractive_gnn.remembered import Remembered


def test_it_is_worked_out_again_where_a_tensor_changes() -> None:
    calls, kept = [], Remembered[float]()
    first, second = torch.ones(2), torch.zeros(3)

    def total() -> float:
        calls.append(1)
        return float(first.sum() + second.sum())

    assert kept([first, second], total) == kept([first.clone(), second], total) == 2.0
    assert len(calls) == 1
    second.add_(1.0)
    assert kept([first, second], total) == 5.0
    kept([first.double(), second], total)  # another precision
    kept([first], total)  # another number of them
    assert len(calls) == 4


def test_it_travels_with_its_owner() -> None:
    kept, tensor = Remembered[float](), torch.ones(2)
    kept([tensor], lambda: 2.0)
    for twin in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert twin([tensor], lambda: 3.0) == 2.0
        assert twin([tensor + 1], lambda: 3.0) == 3.0
    assert kept([tensor], lambda: 4.0) == 2.0


def test_a_tensor_that_is_not_a_number_is_never_the_same() -> None:
    kept, tensor = Remembered[float](), torch.tensor([float("nan")])
    assert (kept([tensor], lambda: 1.0), kept([tensor], lambda: 2.0)) == (1.0, 2.0)
