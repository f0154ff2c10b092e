"""A bound that a parametrisation promises is taken, and only where it holds."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.nn.parametrizations import Spectral, almost_orthogonal, spectral
from contractive_gnn.operators import Conv2d, Dense, KnownNorm, Operator


def dense() -> Dense:
    torch.manual_seed(0)
    return Dense(nn.Parameter(3 * torch.randn(5, 4)))


def conv(**options: object) -> Conv2d:
    torch.manual_seed(0)
    return Conv2d(nn.Parameter(3 * torch.randn(4, 4, 3, 3)), padding=1, **options)  # type: ignore[arg-type]


@pytest.fixture
def no_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Tensor:
        raise AssertionError("a decomposition was computed")

    monkeypatch.setattr(torch.linalg, "svdvals", refuse)
    monkeypatch.setattr(torch.linalg, "matrix_norm", refuse)


@pytest.mark.parametrize("build", [dense, conv])
@pytest.mark.parametrize("bound", [1.0, 0.25])
def test_the_bound_and_a_step_need_no_decomposition(
    build: type[Operator], bound: float, no_decomposition: None
) -> None:
    operator = almost_orthogonal(build(), bound=bound)
    assert float(operator.norm_bound()) == bound
    assert float(operator.norm_bound("l2-degree" if isinstance(operator, Dense) else "l2")) == bound
    assert float(operator.squared_norm_bound()) == bound**2
    flow = GradientFlow(operator, "tanh")
    assert flow.certified
    assert float(flow.max_step()) == pytest.approx(2 / bound**2)


@pytest.mark.parametrize("build", [dense, conv])
def test_spectral_weights_are_known_too(build: type[Operator]) -> None:
    operator = spectral(build(), bound=0.5)
    assert float(operator.norm_bound()) == 0.5
    # It is a bound: that of the weight itself is no larger, up to the slack of computing it.
    exact = operator.weight.detach().double()
    itself = Dense(exact) if isinstance(operator, Dense) else Conv2d(exact, padding=1)
    assert float(itself.norm_bound()) <= 0.5


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_other_norms_are_computed(norm: str) -> None:
    operator = almost_orthogonal(dense())
    assert float(operator.norm_bound(norm)) == pytest.approx(float(Dense(operator.weight.detach()).norm_bound(norm)))


def test_a_promise_for_other_options_is_not_taken() -> None:
    """The norm for one size, or for one grouping, says nothing of another."""
    operator = spectral(conv(size=(3, 3)))
    operator.size = (9, 9)
    assert float(operator.norm_bound()) != 1.0
    grouped = almost_orthogonal(Conv2d(nn.Parameter(torch.ones(4, 2, 1, 1)), groups=2))
    assert float(grouped.norm_bound()) == 1.0
    grouped.groups = 1
    assert float(grouped.norm_bound()) > 1.0
    assert Spectral(1.0).promise(nn.Linear(2, 2)) is None  # no operator, so nothing reads it


def test_only_the_last_parametrisation_counts() -> None:
    class Double(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    operator = spectral(dense(), bound=0.5)
    parametrize.register_parametrization(operator, "weight", Double())
    assert float(operator.norm_bound()) == pytest.approx(1.0, rel=1e-4)


def test_the_promise_of_another_author_is_no_certificate() -> None:
    class Liar(KnownNorm):
        def forward(self, weight: Tensor) -> Tensor:
            return weight

        def promise(self, operator: nn.Module) -> float:
            return 0.1

    operator = dense()
    assert GradientFlow(operator, "tanh").certified
    parametrize.register_parametrization(operator, "weight", Liar())
    assert float(operator.norm_bound()) == pytest.approx(0.1)
    assert not GradientFlow(operator, "tanh").certified
