"""Flow maps of systems, ours and others', of as many weights as each other; part of systems.py.

A network takes a state ``[n, d]`` to that after δ. Its size is one number, the ``width``, by which
:func:`of_equal_size` brings the number of weights near to a given one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from contractive_gnn.datasets.systems import System
from contractive_gnn.dynamics import (
    CenteredField,
    CouplingField,
    HamiltonianField,
    MassField,
    PerceptronField,
    PerceptronMatrix,
    PolynomialEnergy,
    RidgeEnergy,
    SeparableHamiltonian,
    SkewField,
    VectorField,
)
from contractive_gnn.dynamics.layer import Layer
from contractive_gnn.graph import transformed
from contractive_gnn.integrators import Scheme, SphereProjection
from contractive_gnn.nn import Flow
from contractive_gnn.operators import Dense

Build = Callable[[int, float, int], nn.Module]
"""``(d, δ, width) ↦`` the network, in float64."""


def flow(field: nn.Module, delta: float, scheme: str | Scheme, *, num_steps: int = 1) -> Flow:
    """Steps along a field that take δ together."""
    return Flow(
        field.double(),  # type: ignore[arg-type]
        num_steps=num_steps,
        step=delta / num_steps,
        constrained=False,
        scheme=scheme,
    )


def perceptron(dim: int, width: int) -> PerceptronField:
    """``Aᵀ tanh(Bx + b)``."""
    inner, outer = (Dense(nn.Parameter(torch.randn(width, dim) / size**0.5)) for size in (dim, width))
    return PerceptronField(inner, "tanh", outer=outer, bias=nn.Parameter(2 * torch.rand(width) - 1))


class Force(nn.Module):
    """``Cᵀ tanh(Kx + b)``, between spaces of the same dimension: no gradient."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        bias = nn.Parameter(2 * torch.rand(width) - 1)
        self.layer = Layer(Dense(nn.Parameter(torch.randn(width, dim) / dim**0.5)), "tanh", bias=bias)
        self.outer = Dense(nn.Parameter(torch.randn(width, dim) / width**0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        return self.outer.adjoint(self.layer(x))


class Polynomials(VectorField):
    """Polynomials of degree 3 in all coordinates but the last, for all but the last; no constant is known.

    Where the mass is 1 the last coordinate says nothing new, and what it becomes follows from the others.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        every = itertools.product(range(4), repeat=dim - 1)
        powers = torch.tensor([powers for powers in every if sum(powers) <= 3])
        self.register_buffer("powers", powers, persistent=False)
        self.coefficients = nn.Parameter(torch.zeros(len(powers), dim - 1))

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``[n, d]`` to ``[n, d]``."""
        by_power = torch.stack([torch.ones_like(x), x, x**2, x**3], dim=-1)
        monomials = torch.ones_like(x[..., :1])
        for axis, power in enumerate(self.powers.unbind(dim=1)):
            monomials = monomials * by_power[..., axis, power]
        return nn.functional.pad(monomials @ self.coefficients, (0, 1))

    def field_lipschitz(self) -> float:
        """Unknown."""
        return math.inf

    def rate(self) -> float:
        """Unknown."""
        return -math.inf

    def lipschitz(self, step: Tensor | float) -> float:
        """Unknown."""
        return math.inf


# ours ----------------------------------------------------------------------------------------------------------------


def separable(dim: int, delta: float, width: int) -> nn.Module:
    """``H = T(p) + V(q)``, one step of order 4."""
    kinetic, potential = (RidgeEnergy(dim // 2, width) for _ in range(2))
    return flow(SeparableHamiltonian(kinetic, potential), delta, "blanes-moan")


def polynomial(scale: float) -> Build:
    """``H = T(p) + V(q)``, both polynomials, two steps of order 4; far fewer weights than the others."""

    def build(dim: int, delta: float, width: int) -> nn.Module:
        degree = 16 if dim == 2 else 10
        kinetic, potential = (PolynomialEnergy(dim // 2, degree, scale=scale) for _ in range(2))
        return flow(SeparableHamiltonian(kinetic, potential), delta, "blanes-moan", num_steps=2)

    return build


def general(dim: int, delta: float, width: int) -> nn.Module:
    """Any H, two implicit midpoint steps."""
    return flow(HamiltonianField(RidgeEnergy(dim, width)), delta, "implicit-midpoint", num_steps=2)


def modules(dim: int, delta: float, width: int) -> nn.Module:
    """Eight gradient modules with weights of their own, which move p and q in turn."""
    return nn.Sequential(
        *(
            flow(SeparableHamiltonian(*(RidgeEnergy(dim // 2, width) for _ in range(2))), delta, "symplectic-euler")
            for _ in range(4)
        )
    )


def coupling(dim: int, delta: float, width: int) -> nn.Module:
    """``(f(p) | g(q))``: the volume, without a Hamiltonian; one step of order 4."""
    return flow(CouplingField(Force(dim // 2, width), Force(dim // 2, width)), delta, "blanes-moan")


def mass(dim: int, delta: float, width: int) -> nn.Module:
    """``(I − 11ᵀ/d)G(x)``, one step of RK4."""
    return flow(CenteredField(perceptron(dim, width)), delta, "rk4")


def mass_polynomial(dim: int, delta: float, width: int) -> nn.Module:
    """``(I − 11ᵀ/d)G(x)``, G a polynomial, four steps of RK4; far fewer weights than the others."""
    return flow(CenteredField(Polynomials(dim)), delta, "rk4", num_steps=4)


def mass_exchange(dim: int, delta: float, width: int) -> nn.Module:
    """``S(x)1``, S skew, one step of RK4."""
    return flow(MassField(PerceptronMatrix(dim, width)), delta, "rk4")


def sphere(dim: int, delta: float, width: int) -> nn.Module:
    """``(B(x) − B(x)ᵀ)x``, one step of RK4 projected on the sphere."""
    return flow(SkewField(PerceptronMatrix(dim, width)), delta, SphereProjection("rk4"))


# without structure ---------------------------------------------------------------------------------------------------


def resnet(dim: int, delta: float, width: int) -> nn.Module:
    """Two residual blocks ``x + Aᵀ tanh(Bx + b)``."""
    return nn.Sequential(*(flow(perceptron(dim, width), 1.0, "euler") for _ in range(2)))


class NeuralODE(nn.Module):
    """torchdiffeq's solution of ``ẋ = Aᵀ tanh(Bx + b)`` after δ, by its RK4."""

    def __init__(self, field: nn.Module, delta: float) -> None:
        super().__init__()
        self.field = field
        self.delta = delta

    def forward(self, x: Tensor) -> Tensor:
        """``[n, d]`` to ``[n, d]``."""
        if transformed(x):  # odeint writes into a tensor that torch.func does not follow: its own step alone
            from torchdiffeq._impl.rk_common import rk4_alt_step_func

            change: Tensor = rk4_alt_step_func(lambda t, y, perturb=None: self.field(y), 0.0, self.delta, self.delta, x)
            return x + change
        from torchdiffeq import odeint

        times = torch.tensor([0.0, self.delta], dtype=x.dtype)
        after: Tensor = odeint(lambda t, y: self.field(y), x, times, method="rk4")[-1]
        return after

    def extra_repr(self) -> str:
        """Show δ."""
        return f"delta={self.delta}"


def neural_ode(dim: int, delta: float, width: int) -> nn.Module:
    """One perceptron, torchdiffeq 0.2.5."""
    return NeuralODE(perceptron(dim, width).double(), delta)


# symplectic networks of others ---------------------------------------------------------------------------------------


class Strupnet(nn.Module):
    """A network of strupnet, which takes the time step with the state."""

    def __init__(self, net: nn.Module, delta: float) -> None:
        super().__init__()
        self.net = net
        self.delta = delta

    def forward(self, x: Tensor) -> Tensor:
        """``[n, d]`` to ``[n, d]``."""
        after: Tensor = self.net(x, self.delta)
        return after

    def extra_repr(self) -> str:
        """Show δ."""
        return f"delta={self.delta}"


def strupnet(method: str, **options: int) -> Build:
    """SympNet of strupnet 0.0.4; its width, or its number of layers where a layer has none, is what is chosen."""

    def build(dim: int, delta: float, width: int) -> nn.Module:
        before = torch.get_default_dtype()
        from strupnet import SympNet  # sets float64 as the default of the whole process

        sizes = {"layers": 8, "width": width} if method in ("G", "H", "R") else {"layers": width}
        torch.set_default_dtype(torch.float64)  # its constant matrices take the default, and .double() leaves them
        try:
            return Strupnet(SympNet(dim=dim // 2, method=method, **sizes, **options).double(), delta)
        finally:
            torch.set_default_dtype(before)

    return build


def sympnetstorch(dim: int, delta: float, width: int) -> nn.Module:
    """An LA-SympNet of SympNetsTorch 0.0.2, for one degree of freedom: others are wrong there.

    Its bias is learned here, as in the paper (the package leaves it a tensor that the user gives).
    """
    from SympNetsTorch.SympNets import Activation, Linear

    if dim != 2:
        raise ValueError(f"SympNetsTorch 0.0.2 is right for one degree of freedom alone, got {dim // 2}")
    layers: list[nn.Module] = []
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # .double() of a parameter that is also an attribute fails there
    try:
        for side in itertools.islice(itertools.cycle(("up", "low")), width):
            layers.append(Linear(dim=1, up_or_low=side, b=nn.Parameter(torch.zeros(2))))
            layers.append(Activation(torch.tanh, dim=1, up_or_low=side))
        layers.append(Linear(dim=1, b=nn.Parameter(torch.zeros(2))))
    finally:
        torch.set_default_dtype(before)
    net = nn.Sequential(*layers)
    with torch.no_grad():  # of variance 1 the composition of its matrices overflows
        for parameter in net.parameters():
            parameter.mul_(0.1)
    return net


CANONICAL: Mapping[str, Build] = {
    "separable": separable,
    "general": general,
    "modules": modules,
    "coupling": coupling,
    "resnet": resnet,
    "neural-ode": neural_ode,
    "strupnet-G": strupnet("G"),
    "strupnet-H": strupnet("H"),
    "strupnet-R": strupnet("R"),
    "strupnet-P": strupnet("P", max_degree=6),
    "strupnet-LA": strupnet("LA"),
    "sympnetstorch": sympnetstorch,
}
MASS: Mapping[str, Build] = {
    "mass-polynomial": mass_polynomial,
    "mass": mass,
    "mass-exchange": mass_exchange,
    "resnet": resnet,
    "neural-ode": neural_ode,
}
NORM: Mapping[str, Build] = {"sphere": sphere, "resnet": resnet, "neural-ode": neural_ode}
#: about the largest coordinate of a state
REACH = {"pendulum": 2.0, "henon-heiles": 0.5, "log-lotka-volterra": 2.3}
OURS = (
    "polynomial",
    "separable",
    "general",
    "modules",
    "coupling",
    "mass-polynomial",
    "mass",
    "mass-exchange",
    "sphere",
)
SYMPLECTIC_PEERS = tuple(name for name in CANONICAL if name.startswith(("strupnet", "sympnets")))
#: what each network of ours keeps by its construction
KEPT = {
    "polynomial": ("volume", "symplectic"),
    "separable": ("volume", "symplectic"),
    "general": ("volume", "symplectic"),
    "modules": ("volume", "symplectic"),
    "coupling": ("volume",),
    "mass-polynomial": ("mass",),
    "mass": ("mass",),
    "mass-exchange": ("mass",),
    "sphere": ("norm",),
}


def networks(system: System) -> Mapping[str, Build]:
    """Those for a system, by name."""
    if system.canonical:
        own = {"polynomial": polynomial(REACH[system.name])}
        return own | {name: one for name, one in CANONICAL.items() if system.dim == 2 or name != "sympnetstorch"}
    return MASS if "mass" in system.field.conserves else NORM


def parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def of_equal_size(build: Build, dim: int, delta: float, target: int, *, tolerance: float = 0.1) -> int:
    """The width that brings the weights nearest to ``target``; 0 for a network of one size.

    Raises:
        ValueError: where even that is further than ``tolerance`` from it.
    """
    if parameters(build(dim, delta, 4)) == parameters(build(dim, delta, 8)):
        return 0  # its size is its own
    few, more = (parameters(build(dim, delta, width)) for width in (4, 8))
    width = max(2, 4 + round((target - few) / (more - few) * 4))
    found = parameters(build(dim, delta, width))
    if abs(found - target) > tolerance * target:
        raise ValueError(f"{found} weights at a width of {width}, not within {tolerance:.0%} of {target}")
    return width
