"""Trajectories: their pieces, their parts and their noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from contractive_gnn.datasets import InvalidTrajectoriesError
from contractive_gnn.datasets.systems import Trajectories


def counting(n: int = 2, times: int = 5, *shape: int) -> Trajectories:
    """State k of trajectory i is 10i + k in every entry."""
    numbers = 10.0 * torch.arange(n)[:, None] + torch.arange(times)
    states = numbers.view(n, times, *[1] * len(shape or (1,))).expand(n, times, *(shape or (1,)))
    return Trajectories(states.double(), step=0.5, name="counting")


def test_windows_are_all_pieces_in_a_row() -> None:
    pieces = counting().windows(3)
    assert pieces[..., 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [10, 11, 12], [11, 12, 13], [12, 13, 14]]
    assert counting().windows(5).shape == (2, 5, 1)
    images = counting(3, 4, 2, 6, 7).windows(2)
    assert images.shape == (9, 2, 2, 6, 7)
    assert images[4, :, 1, 5, 6].tolist() == [11, 12]
    with pytest.raises(ValueError, match="windows of 6 states wanted, but a trajectory of counting has 5"):
        counting().windows(6)


def test_parts() -> None:
    data = counting(3, 5)
    assert (len(data), data.num_steps, data.shape) == (3, 4, (1,))
    assert data.times.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert data.first(2).states[:, :, 0].tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert data.subset([2, 0], name="two").states[:, 0, 0].tolist() == [20, 0]
    assert data.subset([2, 0], name="two").name == "two"
    with pytest.raises(ValueError, match="num_steps must be below 5"):
        data.first(5)
    assert counting(1, 3).deviation() == pytest.approx((2 / 3) ** 0.5)


def test_noise_is_added_once() -> None:
    data = counting()
    assert data.noisy(0.0, seed=1) is data
    noisy = data.noisy(0.1, seed=1)
    assert torch.equal(noisy.states, data.noisy(0.1, seed=1).states)
    assert not torch.equal(noisy.states, data.noisy(0.1, seed=2).states)
    with pytest.raises(ValueError, match=r"has noise of 0\.1 already"):
        noisy.noisy(0.1, seed=1)


def test_the_digest_is_that_of_what_is_learned_from() -> None:
    data = counting()
    assert data.digest == counting().digest
    others = [
        Trajectories(data.states, step=0.4, name="counting"),
        Trajectories(data.states + 1e-9, step=0.5, name="counting"),
        Trajectories(data.states.reshape(1, 10, 1), step=0.5, name="counting"),
        Trajectories(data.states.float(), step=0.5, name="counting"),
    ]
    assert len({data.digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"states": torch.zeros(5, 2)}, InvalidTrajectoriesError, r"\[5, 2\]; expected \[n, times, \*shape\]"),
        ({"states": torch.zeros(5, 1, 2)}, InvalidTrajectoriesError, "at least two times"),
        ({"states": torch.zeros(0, 3, 2)}, InvalidTrajectoriesError, "at least two times"),
        ({"states": torch.zeros(1, 3, 2, dtype=torch.int64)}, InvalidTrajectoriesError, "torch.int64; expected a tens"),
        ({"states": [[1.0]]}, InvalidTrajectoriesError, "list; expected a tensor"),
        ({"states": torch.full((1, 3, 2), float("nan"))}, InvalidTrajectoriesError, "are not finite"),
        ({"step": 0.0}, ValueError, "step must be positive"),
        ({"noise": -1.0}, ValueError, "noise must be at least 0"),
    ],
)
def test_what_is_no_set_of_trajectories_is_refused(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Trajectories(**{"states": torch.zeros(2, 3, 1), "step": 0.1, "name": "none", **changed})
