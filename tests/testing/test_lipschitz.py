"""The suite for Lipschitz layers finds what is wrong: one mutation each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from contractive_gnn.nn.lipschitz import (
    LipschitzModule,
    MaxPool2d,
    OrthogonalConv2d,
    OrthogonalLinear,
    SpectralConv2d,
    SpectralLinear,
)
from contractive_gnn.testing import (
    LipschitzSuite,
    measured_lipschitz,
    raise_gain,
    rounded_measured_lipschitz,
    singular_values,
)


class Claimed(LipschitzModule):
    """Calls itself 1-Lipschitz, whatever it is made of."""

    def __init__(self, inner: nn.Module, constant: float = 1.0) -> None:
        super().__init__()
        self.inner = inner
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return]

    def lipschitz(self) -> float:
        return self.constant

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        return self.constant * (1.0 + 100 * torch.finfo(dtype).eps)


class Reflected(OrthogonalConv2d):
    """An orthogonal kernel with reflected borders: they count twice."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), self.weight, self.bias)


class UnitRows(nn.Linear):
    """Every row has length 1; the matrix has a norm of up to the root of their number."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, functional.normalize(self.weight, dim=1), self.bias)


class Reshaped(nn.Conv2d):
    """The kernel is divided by the norm of its reshaped matrix: k times too small for k × k."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / torch.linalg.matrix_norm(self.weight.flatten(1), 2)
        return self._conv_forward(x, weight, self.bias)


class OnePowerStep(nn.Linear):
    """Spectral normalisation as it is often written: an estimate from below."""

    def forward(self, x: Tensor) -> Tensor:
        start = torch.ones(self.weight.size(1), dtype=self.weight.dtype)
        left = functional.normalize(self.weight.detach() @ start, dim=0)
        right = functional.normalize(self.weight.detach().t() @ left, dim=0)
        return functional.linear(x, self.weight / (left @ self.weight @ right), self.bias)


class Remembering(SpectralLinear):
    """Its constant is that of the first weights."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        torch.nn.utils.parametrize.remove_parametrizations(self, "weight", leave_parametrized=True)
        self.kept = super().lipschitz()

    def lipschitz(self) -> float:
        return self.kept


class Unsaved(LipschitzModule):
    """What scales it is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = float(torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x

    def lipschitz(self) -> float:
        return self.scale


class Forgetful(Unsaved):
    """A fresh one is another one: the suite makes it twice."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        self.scale = 1.0 / type(self).made


class Centred(nn.Module):
    """Subtracts the mean of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0, keepdim=True) if self.training and len(x) > 1 else x


class BluntGradient(nn.Module):
    """The gradient of its square root is not finite at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square().sum(dim=1, keepdim=True).sqrt()


class DoubledInEvaluation(nn.Module):
    """Another map in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else 2 * x


class Narrow(Claimed):
    """Rounds to bfloat16 itself, and states nothing for it."""

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        return 1.0


IMAGE, VECTOR = (2, 4, 4), (4,)
EVERY_PAIR = "test_no_pair_exceeds_the_constant_after_training_that_raises_it"
MUTATIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "reflected border": (lambda: Reflected(2, 2, 3), IMAGE, EVERY_PAIR),
    "overlapping maximum": (lambda: Claimed(nn.MaxPool2d(3, 1)), IMAGE, EVERY_PAIR),
    "overlapping average": (lambda: Claimed(nn.AvgPool2d(2, 1, divisor_override=2)), IMAGE, EVERY_PAIR),
    "rows of length 1": (lambda: Claimed(UnitRows(4, 6)), VECTOR, EVERY_PAIR),
    "kernel reshaped to a matrix": (lambda: Claimed(Reshaped(2, 3, 3, padding=1)), IMAGE, EVERY_PAIR),
    "one step of power iteration": (lambda: Claimed(OnePowerStep(4, 4)), VECTOR, EVERY_PAIR),
    "first weights only": (lambda: Remembering(4, 4), VECTOR, EVERY_PAIR),
    "residual": (lambda: Claimed(nn.Sequential(nn.Identity(), _Residual(4))), VECTOR, EVERY_PAIR),
    "a free matrix": (lambda: Claimed(nn.Linear(4, 4)), VECTOR, "test_no_jacobian_exceeds_the_constant"),
    "no constant": (lambda: nn.Linear(4, 4), VECTOR, "test_the_constant_is_certified"),
    "batch normalisation": (lambda: Claimed(nn.BatchNorm2d(2), 100.0), IMAGE, "test_samples_do_not_meet"),
    "mean of the batch": (lambda: Claimed(Centred()), VECTOR, "test_samples_do_not_meet"),
    "a buffer that is none": (Forgetful, VECTOR, "test_the_constant_survives_saving_and_loading"),
    "root at zero": (
        lambda: Claimed(BluntGradient()), VECTOR, "test_zero_and_constant_inputs_have_finite_gradients"
    ),
    "another map in evaluation": (
        lambda: Claimed(DoubledInEvaluation()), VECTOR, "test_no_jacobian_exceeds_the_constant"
    ),
    "another map in evaluation, trained": (lambda: Claimed(DoubledInEvaluation()), VECTOR, EVERY_PAIR),
    "nothing stated for bfloat16": (
        lambda: Narrow(OrthogonalLinear(4, 4)), VECTOR, "test_rounded_jacobians"
    ),
}  # fmt: skip


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = SpectralLinear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)  # type: ignore[no-any-return]


def suite_of(make: Callable[[], nn.Module], shape: tuple[int, ...], **attributes: object) -> LipschitzSuite:
    class Suite(LipschitzSuite):
        def make(self) -> nn.Module:
            return make()

    suite = Suite()
    suite.shape = shape
    for name, value in attributes.items():
        setattr(suite, name, value)
    return suite


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_constant_is_found(mutation: str) -> None:
    make, shape, test = MUTATIONS[mutation]
    honest = (lambda: SpectralConv2d(2, 2, 3, padding=1)) if shape == IMAGE else (lambda: SpectralLinear(4, 4))
    getattr(suite_of(honest, shape, gain_steps=20), test)()
    with pytest.raises((AssertionError, ValueError)) as found:
        getattr(suite_of(make, shape), test)()
    print(f"{mutation}: {found.value}")


def test_a_convolution_that_loses_its_border_is_no_isometry() -> None:
    suite_of(lambda: OrthogonalConv2d(2, 2, 3), IMAGE, isometry=True, gain_steps=5).test_isometry()
    with pytest.raises(AssertionError):
        suite_of(
            lambda: OrthogonalConv2d(2, 2, 3, padding_mode="zeros"), IMAGE, isometry=True, gain_steps=5
        ).test_isometry()
    with pytest.raises(AssertionError, match="too few for an isometry"):
        suite_of(lambda: OrthogonalLinear(4, 3), VECTOR, isometry=True, gain_steps=5).test_isometry()


def test_a_loose_constant_is_found_where_it_is_said_to_be_sharp() -> None:
    suite_of(
        lambda: Claimed(nn.Identity()), VECTOR, tight=1.0
    ).test_no_pair_exceeds_the_constant_after_training_that_raises_it()
    with pytest.raises(AssertionError, match=r"more than 1\.1"):
        suite_of(
            lambda: Claimed(nn.Identity(), 1.2), VECTOR, tight=1.1
        ).test_no_pair_exceeds_the_constant_after_training_that_raises_it()


def test_the_falsifier_knows_known_constants() -> None:
    x = torch.randn(2, 1, 4, 4)
    assert measured_lipschitz(nn.Flatten(), x) == pytest.approx(1.0)
    matrix = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        matrix.weight.copy_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))
    assert singular_values(matrix, torch.randn(2, 3)).tolist() == [[4.0, 3.0], [4.0, 3.0]]
    assert matrix.weight.dtype == torch.float32  # a copy was converted
    assert rounded_measured_lipschitz(matrix, torch.randn(1, 3)) == 4.0  # whole numbers are exact in bfloat16
    found = raise_gain(MaxPool2d(3, stride=1), x.double(), steps=100)
    assert 1.5 < found.ratio <= 2.0 + 1e-9  # an entry in the middle is in four windows
    assert found.x.shape == (1, 1, 4, 4)


def test_training_raises_the_gain_of_what_is_free_alone() -> None:
    free = nn.Linear(3, 3)
    before = measured_lipschitz(free, torch.randn(1, 3))
    after = raise_gain(free, torch.randn(2, 3), steps=50)
    assert after.ratio > 1.5 * before
    bound = SpectralLinear(3, 3)
    assert raise_gain(bound, torch.randn(2, 3), steps=50).ratio <= 1.0 + 1e-5


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        measured_lipschitz(nn.Flatten(), torch.zeros(0, 3))
    with pytest.raises(ValueError, match="not finite"):
        measured_lipschitz(BluntGradient(), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="step_size must be positive"):
        raise_gain(nn.Flatten(), torch.zeros(1, 3), step_size=0.0)
    with pytest.raises(NotImplementedError, match="must define make"):
        LipschitzSuite().make()
