"""Splittings: the exact flow of a shear, the sub-scheme of another part, and the constant of a step from its parts."""

import math

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import LieTrotter, Strang, Time, integrate, solver
from contractive_gnn.norms import L1, lipschitz_adversarial


class Linear(VectorField):
    """``ẋ = −Ax`` with A symmetric, eigenvalues in ``[low, high]``: Euler contracts up to ``2/(low + high)``."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix
        self.low, self.high = (float(value) for value in torch.linalg.eigvalsh(matrix)[[0, -1]])

    def forward(self, x: Tensor, t: Time = 0.0) -> Tensor:
        return -x @ self.matrix

    def rate(self) -> float:
        return self.low

    def max_step(self) -> float:
        return 2 / (self.low + self.high)


class Shear(VectorField):
    """``ẋ = (tanh(y) + t, 0)``."""

    shear = True

    def forward(self, x: Tensor, t: Time = 0.0) -> Tensor:
        return torch.stack([x[1].tanh() + t, torch.zeros_like(x[1])])


class Both(VectorField):
    """The sum of its parts."""

    def __init__(self, *parts: VectorField) -> None:
        super().__init__()
        self.summands = torch.nn.ModuleList(parts)

    def forward(self, x: Tensor, t: Time = 0.0) -> Tensor:
        return torch.stack([part(x, t) for part in self.summands]).sum(dim=0)

    def parts(self) -> tuple[VectorField, ...]:
        return tuple(self.summands)  # type: ignore[arg-type]


def definite(seed: int) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    return Linear(root @ root.T / 3 + 0.2 * torch.eye(3, dtype=torch.float64))


def test_a_shear_flows_exactly_and_another_part_by_the_sub_scheme() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    field, x, h, t = Both(Shear(), Linear(matrix)), torch.tensor([0.5, -0.3], dtype=torch.float64), 0.4, 1.0

    def shear(y: Tensor, length: float) -> Tensor:
        return y + length * field.parts()[0](y, t + h / 2)

    def decay(y: Tensor, scheme: str) -> Tensor:
        return integrate(field.parts()[1], y, step=h, num_steps=1, scheme=scheme)

    for inner in ("euler", "rk4", "implicit-euler"):
        end = integrate(field, x, step=h, num_steps=1, t0=t, scheme=LieTrotter(inner=inner), tolerance=1e-14)
        torch.testing.assert_close(end, decay(shear(x, h), inner), rtol=1e-12, atol=1e-12)
    end = integrate(field, x, step=h, num_steps=1, t0=t, scheme="strang")
    torch.testing.assert_close(end, shear(decay(shear(x, h / 2), "heun"), h / 2), rtol=1e-14, atol=1e-14)


def test_sub_schemes_may_be_implicit() -> None:
    assert solver("strang").explicit
    assert not Strang(inner="implicit-midpoint").explicit
    field = Both(Linear(50 * torch.eye(2, dtype=torch.float64)), Shear())
    x = torch.ones(2, dtype=torch.float64)
    end = integrate(field, x, step=0.1, num_steps=1, scheme=LieTrotter(inner="implicit-euler"), max_euler_step=0.02)
    assert float(end[1]) == pytest.approx(1 / 6)


@pytest.mark.parametrize("scheme", [LieTrotter(), Strang(), LieTrotter(inner="ssprk3")], ids=["lie", "strang", "ssp"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_constant_of_a_step_is_the_product_over_the_parts(scheme: LieTrotter | Strang, seed: int) -> None:
    field = Both(definite(seed), definite(seed + 10))
    short = min(part.max_step() for part in field.parts())  # type: ignore[type-var]
    bound = scheme.lipschitz(field, float(short))
    assert 0 < bound < 1

    def step(x: Tensor, h: float = float(short)) -> Tensor:
        return integrate(field, x, step=h, num_steps=1, scheme=scheme)

    x = torch.zeros(3, dtype=torch.float64)
    assert lipschitz_adversarial(step, x, norm="l2", seed=seed).value <= bound + 1e-9
    # Beyond the parts' own steps nothing is claimed, and a long enough step expands.
    assert scheme.lipschitz(field, 4 * float(short)) == math.inf
    assert lipschitz_adversarial(lambda x: step(x, 6 * float(short)), x, norm="l2").value > 1


def test_one_scalar_part_reaches_the_product() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    field = Both(Linear(eye), Linear(2 * eye))
    end = integrate(field, torch.ones(2, dtype=torch.float64), step=0.25, num_steps=1, scheme="lie-trotter")
    assert LieTrotter().lipschitz(field, 0.25) == pytest.approx(float(end[0])) == 0.375


class Growth(VectorField):
    """``ẋ = sin x``, of which only ``Lip ≤ 1`` is declared."""

    def forward(self, x: Tensor, t: Time = 0.0) -> Tensor:
        return x.sin()

    def field_lipschitz(self) -> float:
        return 1.0


@pytest.mark.parametrize("name", ["euler", "heun", "ssprk3", "rk4", "lie-trotter", "strang"])
@pytest.mark.parametrize("h", [0.3, 2.0])
def test_a_field_that_does_not_contract_has_the_constant_of_its_slopes(name: str, h: float) -> None:
    field: VectorField = Growth() if name in ("euler", "heun", "ssprk3", "rk4") else Both(Growth(), Growth())
    bound = solver(name).lipschitz(field, h)
    near = 1e-6 * torch.ones(1, dtype=torch.float64)
    grown = float(integrate(field, near, step=h, num_steps=1, scheme=name) / near)
    assert grown == pytest.approx(bound, rel=1e-6)  # reached at 0, where the slope is 1
    if name == "rk4":
        assert bound == pytest.approx(1 + h + h**2 / 2 + h**3 / 6 + h**4 / 24)


def test_a_shear_has_the_constant_of_its_slope() -> None:
    class Steep(Shear):
        def field_lipschitz(self) -> float:
            return 1.0

    class Sideways(VectorField):
        shear = True

        def forward(self, x: Tensor, t: Time = 0.0) -> Tensor:
            return torch.stack([torch.zeros_like(x[0]), x[0].sin()])

        def field_lipschitz(self) -> float:
            return 1.0

    field = Both(Steep(), Sideways())
    for name, bound in (("symplectic-euler", 1.5**2), ("stormer-verlet", 1.25**2 * 1.5)):
        assert solver(name).lipschitz(field, 0.5) == bound

        def step(x: Tensor, name: str = name) -> Tensor:
            return integrate(field, x, step=0.5, num_steps=1, scheme=name)

        assert 1.5 < lipschitz_adversarial(step, torch.zeros(2, dtype=torch.float64), norm="l2").value <= bound


def test_a_flow_back_in_time_is_no_contraction() -> None:
    """A shear whose steps forward are 1-Lipschitz by its word may expand when it goes back."""

    class Still(VectorField):
        shear = True

        def forward(self, x: Tensor, t: Time = 0.0) -> Tensor:
            return torch.stack([torch.zeros_like(x[0]), x[0].sin()])

        def lipschitz(self, step: Tensor | float) -> float:
            return 1.0 + 0.9 * float(step)  # too small where the step is negative

        def field_lipschitz(self) -> float:
            return 1.0

    class Turned(Still):
        def forward(self, x: Tensor, t: Time = 0.0) -> Tensor:
            return torch.stack([x[1].sin(), torch.zeros_like(x[0])])

    scheme, field, h = solver("blanes-moan"), Both(Turned(), Still()), 0.5
    flows = scheme.flows(2)
    assert min(share for _, share in flows) < 0
    for index in (0, 1):
        assert sum(share for part, share in flows if part == index) == pytest.approx(1.0, abs=1e-15)
    forward = math.prod(1 + 0.9 * share * h for _, share in flows if share > 0)
    back = math.prod(1 - share * h for _, share in flows if share < 0)
    assert scheme.lipschitz(field, h) == pytest.approx(forward * back, rel=1e-12)
    field.norm = L1
    assert scheme.lipschitz(field, h) == math.inf


def test_parts_of_another_norm_prove_nothing() -> None:
    field = Both(definite(0), definite(1))
    field.norm = L1
    assert LieTrotter().lipschitz(field, 0.1) == math.inf


def test_the_constant_of_a_runge_kutta_step_is_that_of_the_field() -> None:
    field = definite(3)
    h = field.max_step()
    for name in ("euler", "heun", "ssprk3", "rk4", "implicit-euler", "implicit-midpoint"):
        bound = solver(name).lipschitz(field, h)

        def step(x: Tensor, name: str = name) -> Tensor:
            return integrate(field, x, step=h, num_steps=1, scheme=name, tolerance=1e-12)

        found = lipschitz_adversarial(step, torch.zeros(3, dtype=torch.float64), norm="l2").value
        assert found <= bound + 1e-6
        assert bound < 1 or name == "rk4"
    assert solver("heun").lipschitz(field, 1.1 * h) == math.inf
    assert solver("sphere-projection").lipschitz(field, h) == math.inf
