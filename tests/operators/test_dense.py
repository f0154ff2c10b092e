"""A matrix, fixed or learned."""

import pytest
import torch
from torch import nn

from contractive_gnn.operators import Dense
from contractive_gnn.testing.operators import OperatorSuite


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestFixed(OperatorSuite):
    shape = (4,)
    l1_factor = 1.0
    l2_factor = 1.0
    linf_factor = 1.0
    lower_factor = 1.0

    def make(self) -> Dense:
        return Dense(draw(6, 4))


class TestLearned(OperatorSuite):
    shape = (4,)
    l1_factor = 1.0
    l2_factor = 1.0
    linf_factor = 1.0
    lower_factor = 1.0

    def make(self) -> Dense:
        return Dense(nn.Parameter(draw(4, 4)))


class TestWide(OperatorSuite):
    """Fewer outputs than inputs: some input is mapped to 0."""

    shape = (5,)
    l1_factor = 1.0
    l2_factor = 1.0
    linf_factor = 1.0
    lower_factor = 1.0

    def make(self) -> Dense:
        return Dense(draw(3, 5))


def test_a_tensor_is_fixed_and_a_parameter_is_learned() -> None:
    fixed, learned = Dense(draw(3, 2)), Dense(nn.Parameter(draw(3, 2)))
    assert [name for name, _ in fixed.named_buffers()] == ["weight"]
    assert not list(fixed.parameters())
    assert [name for name, _ in learned.named_parameters()] == ["weight"]
    assert set(nn.Sequential(fixed, learned).state_dict()) == {"0.weight", "1.weight"}


@pytest.mark.parametrize("n", [2, 30])
def test_the_lower_bound_of_a_nearly_singular_matrix_is_0_in_single_precision(n: int) -> None:
    """A computed singular value below the rounding of the largest one proves nothing."""
    u, _ = torch.linalg.qr(draw(n, n))
    v, _ = torch.linalg.qr(draw(n, n, seed=1))
    values = torch.ones(n, dtype=torch.float64)
    values[-1] = 1e-8
    weight = u @ torch.diag(values) @ v
    assert float(Dense(weight).lower_bound()) == pytest.approx(1e-8, rel=1e-3)
    assert float(torch.linalg.svdvals(weight.float())[-1]) > 0
    assert float(Dense(weight.float()).lower_bound()) == 0.0


def test_lower_bounds_are_differentiable() -> None:
    weight = draw(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: Dense(w).lower_bound(), weight)


def test_what_is_no_weight_is_refused() -> None:
    with pytest.raises(TypeError, match=r"weight must be a real floating tensor, got torch\.int64"):
        Dense(torch.ones(2, 2, dtype=torch.long))
    with pytest.raises(TypeError, match="real and imaginary parts as channels"):
        Dense(torch.ones(2, 2, dtype=torch.complex64))
    for entry in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="entries that are not finite"):
            Dense(torch.full((2, 2), entry))
    learned = Dense(nn.Parameter(torch.ones(2, 2)))
    with torch.no_grad():
        learned.weight[0, 0] = float("nan")  # training went astray
    for bound in (learned.norm_bound, learned.lower_bound, lambda: learned.norm_bound("l1")):
        with pytest.raises(ValueError, match="entries that are not finite"):
            bound()
    with pytest.raises(ValueError, match=r"expected a tensor of shape \[..., 2\], got \[3\]"):
        Dense(torch.ones(3, 2))(torch.ones(3))
    with pytest.raises(ValueError, match=r"expected a tensor of shape \[..., 3\], got \[2\]"):
        Dense(torch.ones(3, 2)).adjoint(torch.ones(2))
    with pytest.raises(TypeError, match="singular values take float32 or float64"):
        Dense(torch.ones(3, 2).half()).norm_bound()
