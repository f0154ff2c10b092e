r"""One layer ``x ↦ σ(Ax + b)`` of an operator and an activation, the part that several fields are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch_geometric.nn.inits import reset

from contractive_gnn import activations
from contractive_gnn.activations import Activation
from contractive_gnn.operators import Composition, Conv2d, Dense, GraphGradient, KnownNorm, Operator, Stencil, Sum
from contractive_gnn.operators.base import described
from contractive_gnn.operators.precision import Exact


class Layer(Exact):
    r"""``x ↦ σ(Ax + b)``, with what a bound must know of it checked.

    Args:
        operator: A.
        activation: σ, or its name.
        bias: b, or None; a parameter is learned.
        steep: whether the slopes of σ may be unbounded, for a field that then claims no constant.

    Attributes:
        axis: the axis of Ax along which a group activation takes its rows; −1 for an elementwise one.

    Raises:
        TypeError: for an operator that is none, or a bias that is no tensor of real numbers.
        ValueError: for an unknown activation, slopes that are not an interval, and a group activation after an operator
            whose channels are not known; (called) for a bias that does not fit.
    """

    bias: Tensor | None

    def __init__(
        self, operator: Operator, activation: str | Activation, *, bias: Tensor | None = None, steep: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(operator, Operator):
            raise TypeError(f"operator must be an operator of contractive_gnn.operators, got {_described(operator)}")
        self.operator = operator
        self.sigma = activations.activation(activation)
        low, high = self.sigma.slopes
        finite = math.isfinite(low) and math.isfinite(high)
        if not (low <= high and (steep or finite)):
            raise ValueError(
                f"the slopes of an activation must be an interval (s_min, s_max) of finite numbers, got "
                f"{self.sigma.slopes} from {self.sigma}"
            )
        self.axis, self._axes = -1, 0
        if self.sigma.group:
            place = channel_axis(operator)
            if place is None:
                raise ValueError(
                    f"{self.sigma} acts on rows of channels, and which axis of the output of "
                    f"{type(operator).__name__} holds them is not known; use an elementwise activation"
                )
            self.axis, self._axes = place
        if bias is None or isinstance(bias, nn.Parameter):
            self.register_parameter("bias", bias)
        elif isinstance(bias, Tensor):
            self.register_buffer("bias", bias)
            self._keep("bias")
        else:
            raise TypeError(f"bias must be a tensor, or an nn.Parameter where it is learned, got {_described(bias)}")
        if bias is not None and not bias.is_floating_point():
            raise TypeError(f"bias must hold real numbers, got {bias.dtype}")

    def forward(self, x: Tensor) -> Tensor:
        """``σ(Ax + b)``, of the shape of Ax."""
        z: Tensor = self.operator(x)
        if z.dim() < self._axes:
            raise ValueError(
                f"{self.sigma} acts on the channels, axis {self.axis} of the output of {type(self.operator).__name__}, "
                f"which has shape {list(z.shape)} here: give the state that axis too"
            )
        if self.bias is not None:
            check_broadcast("bias", self.bias, z, of="Ax")
            z = z + self.bias
        if self.axis == -1:
            return self.sigma(z)  # type: ignore[no-any-return]
        return self.sigma(z.movedim(self.axis, -1)).movedim(-1, self.axis)  # type: ignore[no-any-return]

    @property
    def certified(self) -> bool:
        """Whether σ and all of A are this library's own: the slopes and bounds of others are not proved here."""
        own_sigma = all(_own(part) for part in self.sigma.modules() if isinstance(part, Activation))
        return own_sigma and own_operator(self.operator)

    def state(self, generator: torch.Generator | None) -> Tensor | None:
        """A random state in float64; None where the operator does not say what it takes."""
        shape = state_shape(self.operator)
        return None if shape is None else torch.randn(shape, dtype=torch.float64, generator=generator)

    def reset_parameters(self) -> None:
        """Draw what is learned anew where the operator and σ know how; a learned bias starts at 0."""
        for part in (self.operator, self.sigma):
            reset(part)
        if isinstance(self.bias, nn.Parameter):
            nn.init.zeros_(self.bias)


def channel_axis(operator: nn.Module) -> tuple[int, int] | None:
    """The axis of Ax that holds the channels, from the end, and how many axes Ax has without a batch; None: unknown."""
    if isinstance(operator, Dense):
        return -1, 1
    if isinstance(operator, GraphGradient):
        return -1, 2
    if isinstance(operator, Conv2d):
        return -3, 3
    if isinstance(operator, Composition):
        return channel_axis(operator.operators[0])  # the last one that is applied
    if isinstance(operator, Sum):
        places = {channel_axis(term) for term in operator.operators}
        return places.pop() if len(places) == 1 else None
    return None


def state_shape(operator: nn.Module) -> tuple[int, ...] | None:
    """A small shape of states that A takes, with a batch axis before it; None where it is not known."""
    if isinstance(operator, Dense):
        return 4, operator.weight.size(1)
    if isinstance(operator, GraphGradient):
        return operator.graph.num_nodes, 2
    if isinstance(operator, Conv2d):
        return 2, operator.weight.size(1) * operator.groups, *(operator.size or operator.least_size(8))
    if isinstance(operator, Stencil):
        return 2, *operator.input_shape
    if isinstance(operator, Sum):
        return state_shape(operator.operators[0])
    if isinstance(operator, Composition):
        *after, first = operator.operators
        shape = state_shape(first)
        if isinstance(first, Dense) and after:  # it acts on the last axis, and what comes after it on the others
            before = state_shape(Composition(*after))  # type: ignore[arg-type]  # a list of modules holds them
            return None if before is None else (*before[:-1], first.weight.size(1))
        return shape
    return None


def check_broadcast(name: str, value: Tensor, like: Tensor, *, of: str) -> None:
    """Raise ValueError unless ``value`` broadcasts to the shape of ``like``, without making it larger.

    Args:
        name: of the value.
        value: the tensor.
        like: what it is added to.
        of: the name of that.
    """
    try:
        fits = torch.broadcast_shapes(value.shape, like.shape) == like.shape  # type: ignore[no-untyped-call]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to the shape of {of}, {list(like.shape)}, got {list(value.shape)}")


def own_operator(operator: Operator) -> bool:
    """Whether all that an operator is made of is this library's own, so that its bounds are proved here.

    What promises a bound of a weight counts: it takes the place of a proof.
    """
    return all(_own(part) for part in operator.modules() if isinstance(part, Operator | KnownNorm))


def _own(part: nn.Module) -> bool:
    return type_before_parametrizations(part).__module__.startswith("contractive_gnn.")


def _described(value: object) -> str:
    if isinstance(value, int):
        return f"{value!r}: the gradient flow of a graph, on so many channels, is GraphGradientFlow"
    return described(value)
