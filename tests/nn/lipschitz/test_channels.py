"""Lifts, projections and rearrangements of channels, and standardised pixels."""

import pytest
import torch

from contractive_gnn.nn.lipschitz import ChannelProjection, DepthToSpace, Lift, SpaceToDepth, Standardise


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_a_projection_undoes_a_lift(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    lifted = Lift(3, 7)(x)
    assert lifted.shape == (2, 7, *shape[2:])
    assert torch.equal(lifted.norm(), x.norm())
    assert torch.equal(ChannelProjection(7, 3)(lifted), x)
    assert torch.equal(Lift(3, 3)(x), x)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_depth_to_space_undoes_space_to_depth(block: int) -> None:
    x = torch.randn(2, 3, 6, 12)
    deep = SpaceToDepth(block)(x)
    assert deep.shape == (2, 3 * block**2, 6 // block, 12 // block)
    assert torch.equal(DepthToSpace(block)(deep), x)


def test_standardise_is_what_it_says_and_follows_the_precision_of_its_input() -> None:
    layer = Standardise([0.5, 0.25], [0.5, 0.2])
    x = torch.rand(2, 2, 3, 3, dtype=torch.float64)
    expected = (x - torch.tensor([0.5, 0.25]).view(2, 1, 1)) / torch.tensor([0.5, 0.2]).double().view(2, 1, 1)
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).dtype == torch.float64
    assert layer(x.float()).dtype == torch.float32
    assert layer.lipschitz() == pytest.approx(5.0)
    assert layer.lipschitz() >= 1.0 / float(layer.std.double().min())
    assert set(layer.state_dict()) == {"mean", "std"}
    assert Standardise([0.0], [1.0]).lipschitz() == 1.0


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="ChannelProjection drops channels"):
        Lift(3, 2)
    with pytest.raises(ValueError, match="Lift appends channels"):
        ChannelProjection(2, 3)
    with pytest.raises(ValueError, match=r"expected a tensor \[n, 3, ...\]"):
        Lift(3, 4)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="whose height and width 2 divides"):
        SpaceToDepth(2)(torch.zeros(1, 1, 4, 5))
    with pytest.raises(ValueError, match="whose channels 4 divides"):
        DepthToSpace(2)(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="2 means and 1 stds"):
        Standardise([0.0, 0.0], [1.0])
    for std in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"std\[0\] must be"):
            Standardise([0.0], [std])
    with pytest.raises(ValueError, match=r"expected a tensor \[n, 1, ...\]"):
        Standardise([0.0], [1.0])(torch.zeros(1, 3, 2, 2))
