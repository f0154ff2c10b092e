"""A conformance suite for an operator: say how to build it, and inherit the tests."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable

import torch
from torch import Tensor

from contractive_gnn.norms import L1, L2, LInf, Weighted, operator_norm
from contractive_gnn.operators import Operator

_NORMS = {"l1": L1, "l2": L2, "linf": LInf}


class OperatorSuite:
    """Tests that every :class:`~contractive_gnn.operators.Operator` should pass, for pytest.

    Subclass it in a test module as ``class TestMine(OperatorSuite)``, define :meth:`make` and :attr:`shape`. Bounds are
    compared with the matrix of the operator, so keep the shape small.

    Attributes:
        shape: of one input, without batch axes.
        l1_factor: the largest factor by which the bound in ℓ1 may exceed the norm, 1 for an exact one; here nothing is
            stated. A bound that is far away is loose, or wrong.
        l2_factor: the same in ℓ2.
        linf_factor: the same in ℓ∞.
        lower_factor: the largest factor by which the least ``‖Ax‖/‖x‖`` may exceed its lower bound.
        compiles: ``torch.compile`` takes it without a graph break.
    """

    shape: tuple[int, ...]
    l1_factor: float = math.inf
    l2_factor: float = math.inf
    linf_factor: float = math.inf
    lower_factor: float = math.inf
    compiles: bool = True

    def make(self) -> Operator:
        """Build the operator under test."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def operator(self, seed: int = 0) -> Operator:
        """The operator in float64 with parameters that are not at their start."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            operator = self.make().double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in operator.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(noise * 10 ** -(seed % 3))
        return operator

    def input(self, *batch: int, seed: int = 0) -> Tensor:
        """A random input in float64."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*batch, *self.shape, dtype=torch.float64, generator=generator)

    def test_adjoint(self) -> None:
        """``⟨Ax, y⟩ = ⟨x, Aᵀy⟩`` in the inner product of ``input_norm``, and shapes go back."""
        operator = self.operator()
        weight = _input_weights(operator, self.input())
        for seed in range(4):
            x = self.input(seed=seed)
            image = operator(x)
            y = _like(image, seed)
            back = operator.adjoint(y)
            assert back.shape == x.shape, f"the adjoint has shape {list(back.shape)}, expected {list(x.shape)}"
            left, right = (image * y).sum(), (weight * x * back).sum()
            scale = float((image.norm() * y.norm() + (weight * x).norm() * back.norm()).detach())
            torch.testing.assert_close(left, right, rtol=0, atol=1e-12 * (scale + 1e-300))

    def test_linearity(self) -> None:
        """``A(ax + by) = aAx + bAy``, and ``A0 = 0``; the adjoint too."""
        operator = self.operator()
        x, y = self.input(seed=1), self.input(seed=2)
        both = operator(2.5 * x - 0.75 * y)
        torch.testing.assert_close(both, 2.5 * operator(x) - 0.75 * operator(y), rtol=1e-9, atol=1e-12 * _size(both))
        assert not bool(operator(torch.zeros_like(x)).any())
        u, v = _like(both, 1), _like(both, 2)
        back = operator.adjoint(2.5 * u - 0.75 * v)
        torch.testing.assert_close(
            back, 2.5 * operator.adjoint(u) - 0.75 * operator.adjoint(v), rtol=1e-9, atol=1e-12 * _size(back)
        )

    def test_norm_bound(self) -> None:
        """No bound is exceeded, in double and in single precision, and none is farther away than stated."""
        factors = {"l1": self.l1_factor, "l2": self.l2_factor, "linf": self.linf_factor}
        for seed in range(3):
            for operator in (self.operator(seed), self.operator(seed).float()):
                bounds = {norm: float(operator.norm_bound(norm).detach()) for norm in _NORMS}
                square = float(operator.squared_norm_bound().detach())
                exact = copy.deepcopy(operator).double()
                matrix = _matrix(exact, self.input())
                weight = _input_weights(exact, self.input()).flatten()
                for norm, bound in bounds.items():
                    true = _norm(matrix / weight.sqrt() if norm == "l2" else matrix, norm)
                    # The sums of the bounds in l1 and linf, and the matrix itself, are rounded too.
                    slack = 1e-12 if norm == "l2" else 64 * torch.finfo(operator.norm_bound(norm).dtype).eps
                    assert bound >= true * (1 - slack), f"the {norm} norm is {true:.9g}, above its bound {bound:.9g}"
                    factor = factors[norm]
                    assert bound <= factor * true * 1.001 or factor == math.inf, (
                        f"the {norm} bound {bound:.9g} is more than {factor:g} times the norm {true:.9g}"
                    )
                    if norm == "l2":
                        eps = torch.finfo(operator.squared_norm_bound().dtype).eps
                        assert square >= true**2 * (1 - 64 * eps), f"‖A‖² is {true**2:.9g}, its bound {square:.9g}"

    def test_lower_bound(self) -> None:
        """``‖Ax‖ ≥ l‖x‖`` for every input, in double and in single precision."""
        for seed in range(3):
            for operator in (self.operator(seed), self.operator(seed).float()):
                lower = float(operator.lower_bound().detach())
                exact = copy.deepcopy(operator).double()
                matrix = _matrix(exact, self.input()) / _input_weights(exact, self.input()).flatten().sqrt()
                least = _least(matrix)
                assert 0 <= lower <= least + 1e-13 * _norm(matrix, "l2"), (
                    f"some input has ‖Ax‖/‖x‖ = {least:.9g}, below the bound {lower:.9g}"
                )
                rest = 1e-4 * _norm(matrix, "l2")  # rounding in single precision
                assert self.lower_factor == math.inf or self.lower_factor * lower * 1.001 + rest >= least, (
                    f"‖Ax‖ ≥ {least:.9g} ‖x‖, more than {self.lower_factor:g} times the bound {lower:.9g}"
                )

    def test_names_and_objects_of_norms(self) -> None:
        """Norms come by name or as objects; one that no bound is known in is refused."""
        operator = self.operator()
        for name, norm in _NORMS.items():
            assert torch.equal(operator.norm_bound(name), operator.norm_bound(norm))
        assert torch.equal(operator.norm_bound(operator.input_norm), operator.norm_bound("l2"))
        for foreign in ("l3", Weighted(L2, torch.linspace(1, 2, self.shape[0]), "strange")):
            try:
                operator.norm_bound(foreign)
            except ValueError:
                continue
            raise AssertionError(f"norm_bound took the norm {foreign}")

    def test_batch_axes(self) -> None:
        """Leading axes are a batch: none, one, several, or an empty one."""
        operator = self.operator()
        single = operator(self.input())
        for batch in ((3,), (2, 3), (0,), (2, 0)):
            x = self.input(*batch)
            image = operator(x)
            assert image.shape == (*batch, *single.shape)
            y = _like(image, 3)
            back = operator.adjoint(y)
            assert back.shape == x.shape
            for index in range(math.prod(batch)):
                place = torch.unravel_index(torch.tensor(index), batch)
                torch.testing.assert_close(image[place], operator(x[place]))
                torch.testing.assert_close(back[place], operator.adjoint(y[place]))

    def test_another_shape_is_refused(self) -> None:
        """An input or an output of another shape is an error, and never taken for something else."""
        operator = self.operator()
        x = self.input()
        for f, shape in ((operator.forward, x.shape), (operator.adjoint, operator(x).shape)):
            for wrong in (tuple(n + 1 for n in shape), ()):
                try:
                    f(torch.ones(wrong, dtype=torch.float64))
                except ValueError:
                    continue
                raise AssertionError(f"{f.__name__} of {type(operator).__name__} took the shape {list(wrong)}")

    def test_gradient(self) -> None:
        """Autograd agrees with finite differences, and reaches every parameter, through the bounds too."""
        operator = self.operator()
        x = self.input().requires_grad_()
        assert torch.autograd.gradcheck(operator.forward, x)
        assert torch.autograd.gradcheck(operator.adjoint, _like(operator(x), 1).requires_grad_())
        learned = [(name, p) for name, p in operator.named_parameters() if p.requires_grad]
        if not learned:
            return
        goals: dict[str, Callable[[], Tensor]] = {
            "forward": lambda: operator(x).square().sum(),
            "adjoint": lambda: operator.adjoint(_like(operator(x), 2)).square().sum(),
            **{norm: (lambda norm=norm: operator.norm_bound(norm)) for norm in _NORMS},  # type: ignore[misc]
        }
        for what, goal in goals.items():
            gradients = torch.autograd.grad(goal(), [p for _, p in learned], allow_unused=True)
            for (name, _), gradient in zip(learned, gradients, strict=True):
                assert gradient is not None, f"{name} got no gradient from {what}"
                assert bool(torch.isfinite(gradient).all()), f"the gradient of {name} from {what} is not finite"

    def test_dtype_and_device(self) -> None:
        """Results and bounds have the dtype and the device of the operator, wherever there is a device."""
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        for dtype in (torch.float32, torch.float64):
            for device in devices:
                operator = self.operator().to(device, dtype)
                image = operator(self.input().to(device, dtype))
                everything = [image, operator.adjoint(image), operator.norm_bound(), operator.lower_bound()]
                everything += [operator.squared_norm_bound(), operator.norm_bound("l1"), operator.norm_bound("linf")]
                assert all(tensor.dtype == dtype and tensor.device.type == device for tensor in everything)

    def test_state_dict_copy_and_pickle(self) -> None:
        """Saved, loaded, copied or pickled it is the same operator, with the same bounds."""
        operator, x = self.operator(), self.input()
        expected = operator(x)
        file = io.BytesIO()
        torch.save(operator.state_dict(), file)
        file.seek(0)
        loaded = self.make().double()
        loaded.load_state_dict(torch.load(file, weights_only=True))
        for twin in (loaded, copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
            assert torch.equal(twin(x), expected)
            assert torch.equal(twin.norm_bound(), operator.norm_bound())
            assert torch.equal(twin.lower_bound(), operator.lower_bound())

    def test_compile(self) -> None:
        """``torch.compile`` traces both directions without a break, and the results agree."""
        if not self.compiles:
            return
        operator, x = self.operator(), self.input(2)
        expected = operator(x)
        torch._dynamo.reset()
        compiled = torch.compile(operator, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), expected)
        back = torch.compile(operator.adjoint, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(back(expected), operator.adjoint(expected))


def _like(tensor: Tensor, seed: int) -> Tensor:
    return torch.randn(tensor.shape, dtype=tensor.dtype, generator=torch.Generator().manual_seed(seed))


def _size(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0


def _norm(matrix: Tensor, norm: str) -> float:
    return float(operator_norm(matrix, norm)) if matrix.numel() else 0.0


def _least(matrix: Tensor) -> float:
    """The least ``‖Ax‖/‖x‖``."""
    if matrix.size(0) < matrix.size(1) or matrix.numel() == 0:
        return 0.0
    return float(torch.linalg.svdvals(matrix)[-1])


def _matrix(operator: Operator, like: Tensor) -> Tensor:
    """The matrix ``[out, in]`` of one input at a time."""
    with torch.no_grad():
        units = torch.eye(like.numel(), dtype=like.dtype).view(-1, *like.shape)
        return torch.stack([operator(unit).flatten() for unit in units], dim=1)


def _input_weights(operator: Operator, like: Tensor) -> Tensor:
    """The weight of every entry in the inner product on the inputs: the squared norm of its unit vector."""
    units = torch.eye(like.numel(), dtype=like.dtype).view(-1, *like.shape)
    return torch.stack([operator.input_norm(unit).square() for unit in units]).view(like.shape)
