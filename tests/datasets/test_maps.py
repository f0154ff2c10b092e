"""The maps keep what they are said to keep, and are what a finer computation gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contractive_gnn.datasets.maps import MAPS, BallMap
from contractive_gnn.norms import jacobian


def determinants(name: str, count: int = 4) -> Tensor:
    chosen = MAPS.get(name)
    return torch.stack([torch.linalg.det(jacobian(chosen, x)) for x in 0.99 * chosen.points(count, seed=3)])


@pytest.mark.parametrize("name", MAPS)
def test_points_lie_in_the_ball_and_come_again(name: str) -> None:
    chosen = MAPS.get(name)
    x = chosen.points(2000, seed=0)
    assert x.shape == (2000, chosen.dim)
    assert float(x.norm(dim=1).max()) <= chosen.radius
    # uniform: the share within half the radius is 2^-d
    assert float((x.norm(dim=1) < chosen.radius / 2).double().mean()) == pytest.approx(0.5**chosen.dim, abs=0.03)
    assert torch.equal(x, chosen.points(2000, seed=0))
    assert not torch.equal(x, chosen.points(2000, seed=1))
    assert chosen(x).shape == x.shape
    assert chosen(x.float().reshape(2, 1000, -1)).shape == (2, 1000, chosen.dim)
    assert chosen(x.float()).dtype == torch.float32


def test_the_swirl_keeps_norm_and_volume() -> None:
    x = MAPS.get("swirl").points(500, seed=0)
    torch.testing.assert_close(MAPS.get("swirl")(x).norm(dim=1), x.norm(dim=1), rtol=1e-14, atol=0)
    torch.testing.assert_close(determinants("swirl"), torch.ones(4, dtype=torch.float64))


def test_the_abc_flow_keeps_the_volume_and_no_norm() -> None:
    torch.testing.assert_close(determinants("abc-flow"), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-8)
    x = MAPS.get("abc-flow").points(500, seed=0)
    assert float((MAPS.get("abc-flow")(x).norm(dim=1) - x.norm(dim=1)).abs().max()) > 0.5


def test_lotka_and_volterra_keep_their_integral_and_neither_volume_nor_norm() -> None:
    chosen = MAPS.get("lotka-volterra")
    x = chosen.points(500, seed=0)

    def integral(y: Tensor) -> Tensor:
        return (y - (1 + y).log()).sum(dim=1)

    torch.testing.assert_close(integral(chosen(x)), integral(x), rtol=0, atol=1e-9)
    values = determinants("lotka-volterra")
    assert float((values - 1).abs().max()) > 0.1
    assert float(values.min()) > 0
    assert float((chosen(x).norm(dim=1) - x.norm(dim=1)).abs().max()) > 0.1


@pytest.mark.parametrize("name", MAPS)
def test_the_orientation_is_as_declared(name: str) -> None:
    assert set(determinants(name).sign().tolist()) == {float(MAPS.get(name).orientation)}


def test_errors_say_what_was_expected() -> None:
    swirl = MAPS.get("swirl")
    with pytest.raises(ValueError, match=r"the points must lie in the ball of radius 1, got one at 1\.414"):
        swirl(torch.ones(1, 2))
    with pytest.raises(ValueError, match="got one at nan"):
        swirl(torch.full((1, 2), torch.nan))
    with pytest.raises(ValueError, match=r"the points must have shape \[\.\.\., 2\], got \[4, 3\]"):
        swirl(torch.zeros(4, 3))
    with pytest.raises(TypeError, match="the points must be a floating point tensor"):
        swirl(torch.zeros(4, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="count must be at least 1"):
        swirl.points(0, seed=0)
    for given, expected in (
        ({"radius": -1.0}, "radius must be positive"),
        ({"radius": float("nan")}, "radius must be positive"),
        ({"dim": 0}, "dim must be at least 1"),
        ({"orientation": 0}, "orientation must be 1 or -1"),
    ):
        with pytest.raises(ValueError, match=expected):
            BallMap(**{"dim": 2, "radius": 1.0, "image": torch.neg, **given})  # type: ignore[arg-type]
