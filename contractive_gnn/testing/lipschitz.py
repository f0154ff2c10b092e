"""Tools that try to falsify the Lipschitz constant of a layer, and a conformance suite: inherit its tests."""

from __future__ import annotations

import copy
import io
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.nn.lipschitz import certified, lipschitz, rounded_lipschitz


class Gain(NamedTuple):
    """Two inputs, and how much farther apart they are after the layer.

    Attributes:
        ratio: ``‖f(x) − f(y)‖₂/‖x − y‖₂``, a lower bound of the Lipschitz constant.
        x: one sample, with a batch axis of length 1.
        y: the other one.
    """

    ratio: float
    x: Tensor
    y: Tensor


def singular_values(module: nn.Module, x: Tensor, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The singular values of the dense Jacobian at each sample, in descending order, ``[n, min(in, out)]``.

    The Jacobian is autograd's, row by row, so that nothing is asked of the module but a gradient. A copy of the module
    is evaluated: it, and its mode, stay as they are.

    Args:
        module: any that takes a batch.
        x: ``[n, …]``, n ≥ 1; each sample is evaluated alone.
        dtype: the module's copy and x are converted to it.

    Raises:
        ValueError: for an empty batch, and a Jacobian with an entry that is not finite.
    """
    if x.dim() < 1 or x.size(0) < 1 or x.numel() == 0:
        raise ValueError(f"expected a batch of at least one sample, got shape {list(x.shape)}")
    twin = copy.deepcopy(module).to(dtype)
    return torch.stack([_values(twin, sample) for sample in torch.split(x.detach().to(dtype), 1)])


def measured_lipschitz(module: nn.Module, x: Tensor, *, dtype: torch.dtype = torch.float64) -> float:
    """The largest singular value of the dense Jacobian at the samples of x: a lower bound of the Lipschitz constant.

    Exact at x where the module has a derivative there. Arguments and errors are those of :func:`singular_values`.

    Example:
        >>> import torch
        >>> from contractive_gnn.nn.lipschitz import MaxPool2d
        >>> x = torch.arange(9.0).view(1, 1, 3, 3)
        >>> measured_lipschitz(MaxPool2d(2), x), MaxPool2d(2).lipschitz()
        (1.0, 1.0)
    """
    return float(singular_values(module, x, dtype=dtype).max())


def rounded_measured_lipschitz(module: nn.Module, x: Tensor, *, dtype: torch.dtype = torch.bfloat16) -> float:
    """:func:`measured_lipschitz` of the Jacobian that autograd evaluates with weights and results in ``dtype``.

    The module's parameters stay as they are, x is converted, and the rest is ``torch.autocast``'s; in float32 and
    float64 the module is converted instead. The singular values themselves are worked out in float64.
    """
    if dtype in (torch.float32, torch.float64):
        return measured_lipschitz(module, x, dtype=dtype)
    twin = copy.deepcopy(module)
    with torch.autocast(x.device.type, dtype=dtype):
        values = [_values(twin, sample) for sample in torch.split(x.detach().to(dtype), 1)]
    return float(torch.stack(values).max())


def _values(module: nn.Module, sample: Tensor) -> Tensor:
    """The singular values of the Jacobian at one sample, with its batch axis."""
    with torch.enable_grad():
        jacobian: Tensor = torch.autograd.functional.jacobian(module, sample)  # type: ignore[no-untyped-call]
    matrix = jacobian.double().reshape(-1, sample.numel())
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("the Jacobian has an entry that is not finite: there is nothing to measure")
    values: Tensor = torch.linalg.svdvals(matrix)
    return values


def raise_gain(module: nn.Module, x: Tensor, *, steps: int = 60, step_size: float = 0.05, seed: int = 0) -> Gain:
    """Train a module, and two inputs, to move them as far apart as it can; the module is changed in place.

    Adam ascends ``log ‖f(x) − f(y)‖₂/‖x − y‖₂`` in all parameters, in x and in y. A constant that holds for the first
    weights only, or only on average, does not survive it.

    Args:
        module: any that takes a batch.
        x: ``[n, …]``, where the search begins: at each sample, with a y nearby, one far away, and one that differs in a
            single entry.
        steps: of Adam.
        step_size: of Adam.
        seed: of the directions to y.

    Returns:
        The pair with the largest ratio of those met under the *last* weights.

    Raises:
        TypeError: for a number that is none.
        ValueError: for a number out of its range, or where a ratio is not finite.
    """
    check_whole("steps", steps, least=0)
    check_real("step_size", step_size, above=0)
    generator = torch.Generator().manual_seed(seed)
    start = torch.cat([x.detach()] * 3)
    noise = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    noise[: len(x)] *= 0.01
    spikes = noise[2 * len(x) :].zero_().flatten(1)
    entries = torch.randint(spikes.size(1), (len(x), 1), generator=generator)
    noise[2 * len(x) :] = spikes.scatter(1, entries, 4.0).view(x.shape)
    first, second = start.clone().requires_grad_(), (start + noise.to(start)).requires_grad_()
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam([first, second, *learned], lr=step_size)
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            ratios = _ratios(module, first, second)
            if not bool(torch.isfinite(ratios).all()):
                raise ValueError("the two outputs are not finite: take a smaller step_size")
            # every pair ascends, and the weights follow the best ones
            (-(ratios + 1e-12).log().logsumexp(0)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        ratios = _ratios(module, first, second)
    best = int(ratios.argmax())
    return Gain(float(ratios[best]), first[best : best + 1].detach(), second[best : best + 1].detach())


def _ratios(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    moved: Tensor = (module(x) - module(y)).flatten(1).norm(dim=1)
    ratios: Tensor = moved / torch.linalg.vector_norm((x - y).flatten(1), dim=1).clamp(min=1e-9)
    return ratios


class LipschitzSuite:
    """Tests that every layer with a certified constant should pass, for pytest.

    Subclass it in a test module as ``class TestMine(LipschitzSuite)``, define :meth:`make` and :attr:`shape`. Constants
    are compared with dense Jacobians, so keep the shape small.

    Attributes:
        shape: of one input, without the batch axis.
        tight: the largest factor by which the constant may exceed what is measured after training that raises the
            gain; here nothing is stated.
        isometry: all singular values are 1, to ``1e-6``.
        gain_steps: of the training.
        rounded: bounds of the Jacobian that is evaluated in float32 and in bfloat16, in place of
            ``rounded_lipschitz``, as a factor of the constant; by dtype.
        bfloat16: whether the layer is evaluated in bfloat16 at all.
        compiles: ``torch.compile`` takes the layer without a graph break.
        modes: in which samples must not meet: training, evaluation or both.
    """

    shape: tuple[int, ...]
    tight: float = math.inf
    isometry: bool = False
    gain_steps: int = 60
    rounded: dict[torch.dtype, float] = {}  # noqa: RUF012  # a subclass sets its own
    bfloat16: bool = True
    compiles: bool = True
    modes: tuple[bool, ...] = (True, False)

    def make(self) -> nn.Module:
        """Build the layer under test."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def module(self, seed: int = 0) -> nn.Module:
        """The layer in float64 with parameters that are not at their start."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.make().double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(noise * 10 ** -(seed % 3))
        return module

    def input(self, n: int = 2, *, seed: int = 0, scale: float = 1.0) -> Tensor:
        """Random inputs in float64, ``[n, …]``."""
        generator = torch.Generator().manual_seed(seed)
        return scale * torch.randn(n, *self.shape, dtype=torch.float64, generator=generator)

    def trained(self, seed: int = 0, *, share: float = 1.0) -> tuple[nn.Module, Gain]:
        """The layer after a share of the training that raises its gain, and what was reached."""
        module = self.module(seed)
        steps = math.ceil(share * self.gain_steps)
        return module, raise_gain(module, self.input(seed=seed), steps=steps, seed=seed)

    def test_the_constant_is_certified(self) -> None:
        """It is finite, positive or 0, and called proved."""
        module = self.module()
        constant = lipschitz(module)
        assert 0.0 <= constant < math.inf, f"the constant is {constant}"
        assert certified(module), "the layer does not call its constant proved"

    def test_no_jacobian_exceeds_the_constant(self) -> None:
        """Before training, at inputs of several sizes, for weights near the start and far from it, in either mode."""
        for seed in range(3):
            module = self.module(seed)
            for scale in (1e-3, 1.0, 10.0):
                self.check(module, self.input(seed=seed, scale=scale))
            self.check(module.eval(), self.input(seed=seed))

    def test_no_pair_exceeds_the_constant_after_training_that_raises_it(self) -> None:
        """Nor does a Jacobian there, in either mode; and the constant is not farther away than stated."""
        reached = 0.0
        for seed in range(2):
            module, gain = self.trained(seed)
            constant = lipschitz(module)
            assert gain.ratio <= constant * (1 + 1e-7), (
                f"two inputs move apart by {gain.ratio:.9g}, more than the constant {constant:.9g}"
            )
            found = max(gain.ratio, self.check(module, torch.cat([gain.x, gain.y])))
            reached = max(reached, found / constant if constant else 1.0)
            self.check(module.eval(), torch.cat([gain.x, gain.y]))
        assert self.tight == math.inf or reached * self.tight >= 1 - 1e-9, (
            f"the constant is {1 / reached:.6g} times what was reached, more than {self.tight:g}"
        )

    def test_the_constant_survives_saving_and_loading(self) -> None:
        """A trained layer that is saved and loaded into a fresh one is the same layer with the same constant."""
        module, gain = self.trained(share=0.3)
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        loaded = self.make().double()
        before = lipschitz(loaded)
        loaded.load_state_dict(torch.load(file, weights_only=True))
        for twin in (loaded, copy.deepcopy(module)):
            torch.testing.assert_close(twin(gain.x), module(gain.x), rtol=0, atol=0)
            assert lipschitz(twin) == lipschitz(module), f"{lipschitz(twin)}, it was {before} before loading"
            self.check(twin, gain.x)

    def test_rounded_jacobians(self) -> None:
        """In float32 and bfloat16 the evaluated Jacobian stays below what is stated for it, after training too."""
        for module, x in (
            (self.module(1), self.input(seed=1)),
            *((m, torch.cat([g.x, g.y])) for m, g in [self.trained(share=0.3)]),
        ):
            single = module.float()
            constant = lipschitz(single)
            for dtype in (torch.float32, *([torch.bfloat16] if self.bfloat16 else [])):
                factor = self.rounded.get(dtype)
                bound = rounded_lipschitz(single, dtype) if factor is None else factor * constant
                assert constant <= bound < math.inf, f"for {dtype} the layer states {bound}; its constant is {constant}"
                found = rounded_measured_lipschitz(single, x, dtype=dtype)
                assert found <= bound, f"in {dtype} a Jacobian has norm {found:.6g}, above the stated {bound:.6g}"

    def test_samples_do_not_meet(self) -> None:
        """The output of a sample is its own, in training and in evaluation, whatever its batch is."""
        for mode in self.modes:
            module = self.module().train(mode)
            x = self.input(4, seed=3)
            with torch.no_grad():
                together, alone = module(x), torch.cat([module(sample) for sample in torch.split(x, 1)])
            torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)

    def test_gradient(self) -> None:
        """Autograd agrees with finite differences, and reaches every parameter."""
        module = self.module(1)
        x = self.input(1, seed=5).requires_grad_()
        assert torch.autograd.gradcheck(module, x, atol=1e-5)
        names, parameters = zip(*module.named_parameters(), strict=True) if list(module.parameters()) else ((), ())
        if not parameters:
            return
        out = module(x)
        weights = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(3))
        gradients = torch.autograd.grad((out * weights).sum(), parameters, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            assert gradient is not None, f"{name} got no gradient"
            assert bool(torch.isfinite(gradient).all()), f"the gradient of {name} is not finite"

    def test_zero_and_constant_inputs_have_finite_gradients(self) -> None:
        """At ties and at zero, where a layer may have no derivative, autograd's is finite and within the constant."""
        module = self.module()
        for value in (0.0, 1.0):
            self.check(module, torch.full((1, *self.shape), value, dtype=torch.float64))

    def test_compile(self) -> None:
        """``torch.compile`` traces the layer without a break, and the result agrees."""
        if not self.compiles:
            return
        module, x = self.module().float(), self.input().float()
        torch._dynamo.reset()
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), module(x), rtol=1e-4, atol=1e-4)

    def test_isometry(self) -> None:
        """Where it is called one, no input shrinks either."""
        if not self.isometry:
            return
        for module in (self.module(2), self.trained(share=0.3)[0]):
            values = singular_values(module, self.input(1))
            size = math.prod(self.shape)
            assert values.size(1) == size, f"{values.size(1)} outputs are too few for an isometry of {size} inputs"
            torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-6)

    def check(self, module: nn.Module, x: Tensor) -> float:
        """Raise AssertionError where a Jacobian exceeds the constant; return its norm."""
        constant, found = lipschitz(module), measured_lipschitz(module, x)
        assert found <= constant * (1 + 1e-9) + 1e-12, (
            f"a Jacobian has norm {found:.9g}, above the constant {constant:.9g}"
        )
        return found
