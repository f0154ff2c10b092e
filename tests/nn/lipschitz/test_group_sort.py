"""Sorting of groups of channels."""

import pytest
import torch

from contractive_gnn.nn.lipschitz import FullSort, GroupSort, MaxMin


@pytest.mark.parametrize("shape", [(3, 12), (2, 12, 5), (2, 12, 3, 4), (0, 12), (2, 12, 0)])
@pytest.mark.parametrize("size", [1, 2, 3, 12])
def test_each_group_is_sorted(shape: tuple[int, ...], size: int) -> None:
    x = torch.randn(shape)
    expected = torch.cat([group.sort(dim=1).values for group in x.split(size, dim=1)], dim=1)
    assert torch.equal(GroupSort(size)(x), expected)
    if size == 2:
        assert torch.equal(MaxMin()(x), expected)
    if size == 12:
        assert torch.equal(FullSort()(x), expected)


def test_another_axis_of_channels() -> None:
    x = torch.randn(5, 4)
    assert torch.equal(GroupSort(4, dim=-1)(x), x.sort(dim=-1).values)
    assert torch.equal(FullSort(dim=0)(x), x.sort(dim=0).values)


def test_equal_entries_share_a_gradient_of_length_one() -> None:
    x = torch.ones(1, 2, requires_grad=True)
    rows = torch.autograd.functional.jacobian(MaxMin(), x).reshape(2, 2)  # type: ignore[no-untyped-call]
    assert float(torch.linalg.matrix_norm(rows, 2)) <= 1.0 + 1e-6


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="groups of 3 do not divide 4 channels"):
        GroupSort(3)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="group_size must be at least 1"):
        GroupSort(0)
    with pytest.raises(TypeError, match="group_size must be a whole number"):
        GroupSort(2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channels on axis 1"):
        MaxMin()(torch.zeros(4))
