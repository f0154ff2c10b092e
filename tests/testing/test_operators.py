"""The suite for operators finds what is wrong: one mutation each."""

import pytest
import torch
from torch import Tensor

from contractive_gnn.norms import Norm, estimate_norm
from contractive_gnn.operators import Dense, Operator
from contractive_gnn.testing import OperatorSuite


def weight() -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def suite_of(operator: Operator, **attributes: float) -> OperatorSuite:
    class Suite(OperatorSuite):
        shape = (4,)

        def make(self) -> Operator:
            return operator

    suite = Suite()
    for name, value in attributes.items():
        setattr(suite, name, value)
    return suite


class WrongAdjoint(Dense):
    def adjoint(self, y: Tensor) -> Tensor:
        return super().adjoint(y) * 1.0001


class EstimatedNorm(Dense):
    """A few steps of power iteration: from below, as spectral normalisation has it."""

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        if norm != "l2":
            return super().norm_bound(norm)
        weight = self.weight.detach()
        estimate = estimate_norm(lambda x: x @ weight.t(), lambda y: y @ weight, weight[0], iterations=2)
        return weight.new_tensor(estimate.value)


class UnroundedNorm(Dense):
    """The largest singular value as it is computed in single precision."""

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        if norm != "l2":
            return super().norm_bound(norm)
        largest: Tensor = torch.linalg.matrix_norm(self.weight, 2)
        return largest * (1 - 1e-7 if self.weight.dtype == torch.float32 else 1)


class LargeLowerBound(Dense):
    def lower_bound(self) -> Tensor:
        return torch.linalg.svdvals(self.weight)[-1] * 1.0001


class WideLowerBound(Dense):
    """The least singular value of a wide matrix says nothing of its kernel."""

    def lower_bound(self) -> Tensor:
        return torch.linalg.svdvals(self.weight)[-1] * 0.5


class Affine(Dense):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1


class OneRow(Dense):
    """Takes a batch for one vector."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / x.norm() if x.dim() > 2 else super().forward(x)


class Forgetful(Operator):
    """Its weight is neither saved nor moved."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(5, 4)  # drawn anew each time

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t().to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.weight.to(y)

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        return Dense(self.weight).norm_bound(norm)


@pytest.mark.parametrize(
    ("operator", "test"),
    [
        (WrongAdjoint(weight()), "test_adjoint"),
        (EstimatedNorm(weight()), "test_norm_bound"),
        (UnroundedNorm(weight()), "test_norm_bound"),
        (LargeLowerBound(weight()), "test_lower_bound"),
        (Affine(weight()), "test_linearity"),
        (OneRow(weight()), "test_batch_axes"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_mutation_is_found(operator: Operator, test: str) -> None:
    getattr(suite_of(Dense(weight())), test)()
    with pytest.raises(AssertionError):
        getattr(suite_of(operator), test)()


def test_a_lower_bound_of_a_wide_matrix_is_found() -> None:
    class Wide(OperatorSuite):
        shape = (4,)

        def make(self) -> Operator:
            return WideLowerBound(weight()[:3])

    with pytest.raises(AssertionError, match="below the bound"):
        Wide().test_lower_bound()


def test_a_loose_bound_is_found_where_it_is_said_to_be_sharp() -> None:
    class Loose(Dense):
        def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
            return 1.2 * super().norm_bound(norm)

    suite_of(Loose(weight())).test_norm_bound()
    for factor in ("l1_factor", "l2_factor", "linf_factor"):
        with pytest.raises(AssertionError, match=r"more than 1\.1 times the norm"):
            suite_of(Loose(weight()), **{factor: 1.1}).test_norm_bound()
    with pytest.raises(AssertionError, match="more than 1 times the bound"):
        suite_of(WideLowerBound(weight()), lower_factor=1.0).test_lower_bound()


def test_a_weight_that_is_no_buffer_is_found() -> None:
    class Forgets(OperatorSuite):
        shape = (4,)
        calls = 0

        def make(self) -> Operator:
            with torch.random.fork_rng(devices=[]):
                type(self).calls += 1
                torch.manual_seed(type(self).calls)
                return Forgetful()

    with pytest.raises(AssertionError):
        Forgets().test_state_dict_copy_and_pickle()
    with pytest.raises(AssertionError):
        Forgets().test_dtype_and_device()


def test_an_operator_must_say_what_it_is() -> None:
    class Nothing(Operator):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()  # type: ignore[abstract]
    with pytest.raises(NotImplementedError, match="must define make"):
        OperatorSuite().make()
