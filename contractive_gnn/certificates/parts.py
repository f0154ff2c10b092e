"""A model taken apart into what the bound needs, if it is one that the bound covers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import type_before_parametrizations
from torch_geometric.nn.aggr import SumAggregation

from contractive_gnn.activations import Activation, Huber, Identity, LeakyReLU, Softsign, SoftThreshold, Tanh
from contractive_gnn.certificates.rounding import DTYPES, Unproved
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.nn.bound import constraints
from contractive_gnn.nn.flow import FlowConv, FlowGNN
from contractive_gnn.nn.plain import altered, plain_type, reduced_precision
from contractive_gnn.nn.sparse import Linear

#: affine maps and nothing else
_AFFINE = (Linear, torch_geometric.nn.Linear, nn.Linear)
#: monotone, and computed to within a few units in the last place
_SIGMA = (Identity, LeakyReLU, Tanh, Softsign, Huber, SoftThreshold)


@dataclass(frozen=True, eq=False)
class Parts:
    """A model taken apart into what the bound needs.

    Attributes:
        encoder: affine maps with ReLUs between them.
        rectify_last: whether a ReLU follows the last of them.
        dynamics: the diffusion.
        num_steps: L.
        step: h.
        decoder: the affine map after the diffusion, or None where it runs on the class scores.
        dtype: in which the model runs.
    """

    encoder: Sequence[nn.Linear]
    rectify_last: bool
    dynamics: Diffusion
    num_steps: int
    step: float
    decoder: nn.Linear | None
    dtype: torch.dtype

    def in_double(self) -> Parts:
        """The parts in float64, on the CPU, with the very weights that the model uses.

        A parametrised weight is evaluated in the model's own precision, as in its forward pass, and converted then: a
        converted parametrisation would have other values.

        Raises:
            Unproved: a parametrised weight that is not the same twice.
        """
        return replace(
            self,
            encoder=[_converted(layer) for layer in self.encoder],
            dynamics=Diffusion(activation=_rebuilt(self.dynamics.sigma), mu=self.dynamics.mu),
            decoder=None if self.decoder is None else _converted(self.decoder),
        )


def take_apart(model: nn.Module) -> Parts | str:
    """The parts of a model that the bound covers, or the reason why it does not cover this one.

    Covered is a :class:`FlowGNN` of this very class, of plain affine maps and a :class:`Diffusion` with a monotone
    activation of the library, under Euler steps of at most 1/(1 + μ), unless something makes it compute something else
    (:func:`~contractive_gnn.nn.plain.altered`).
    """
    if plain_type(model) is not FlowGNN:
        return f"{type(model).__name__} is not a FlowGNN, for which the bound is proved"
    assert isinstance(model, FlowGNN)
    conv = model.conv
    if plain_type(conv) is not FlowConv or plain_type(conv.dynamics) is not Diffusion:
        return f"the bound is proved for the ℓ∞ Diffusion, not for {type(getattr(conv, 'dynamics', conv)).__name__}"
    for name in ("encoder", "decoder"):
        why = _not_affine(getattr(model, name))
        if why:
            return f"the bound is proved for an {name} that is an affine map: {why}"
    if conv.scheme != "euler":
        return f"the bound is proved for Euler steps, not for {conv.scheme!r}"
    dynamics = conv.dynamics
    assert isinstance(dynamics, Diffusion)
    why = (
        _other_sigma(dynamics.sigma)
        or _other_diffusion(dynamics)
        or altered(model, trusted=[*constraints(model.encoder), *constraints(model.decoder)])
    )
    if why:
        return why
    if model.space not in ("class", "hidden"):
        return f"space is {model.space!r}, neither 'class' nor 'hidden'"
    if not (type(conv.num_steps) is int and conv.num_steps >= 1):
        return f"num_steps is {conv.num_steps!r}, no number of steps"
    if not (conv.step is None or (_is_number(conv.step) and conv.step > 0)):
        return f"the step is {conv.step!r}, no positive number"
    tensors = list(model.parameters())
    kinds = {tensor.dtype for tensor in tensors}
    if len(kinds) > 1 or not kinds <= set(DTYPES):
        return f"the bound is proved for a model in one floating point precision, got {sorted(map(str, kinds))}"
    why = reduced_precision(tensors)
    if why:
        return why
    limit = 1.0 / (1.0 + dynamics.mu)
    step = limit if conv.step is None else min(limit, conv.step) if conv.constrained else conv.step
    if step > limit:
        return f"a step of {step:g} is beyond 1/(1 + mu) = {limit:g}: the step is not monotone"
    in_class_space = model.space == "class"
    return Parts(
        encoder=(model.encoder, model.decoder) if in_class_space else (model.encoder,),
        rectify_last=not in_class_space,
        dynamics=dynamics,
        num_steps=conv.num_steps,
        step=float(step),
        decoder=None if in_class_space else model.decoder,
        dtype=tensors[0].dtype,
    )


def _not_affine(layer: nn.Module) -> str:
    if plain_type(layer) not in _AFFINE:
        return f"{type(layer).__name__} may compute anything"
    weight: Any = layer.weight
    bias: Any = layer.bias
    if isinstance(weight, Tensor) and is_lazy(weight):  # it is asked for its weights later
        return ""
    if type(weight) not in (Tensor, nn.Parameter) or weight.dim() != 2:
        return f"its weight is no matrix: {type(weight).__name__}"
    if bias is not None and (type(bias) not in (Tensor, nn.Parameter) or bias.shape != weight.shape[:1]):
        return f"its bias does not fit its weight {list(weight.shape)}"
    return ""


def _other_sigma(sigma: nn.Module) -> str:
    """Why the activation is none for which the bound is proved."""
    if plain_type(sigma) not in _SIGMA:
        names = ", ".join(kind.__name__ for kind in _SIGMA)
        return f"the bound is proved for the monotone activations {names}, computed by the library: not for {sigma}"
    assert isinstance(sigma, Activation)
    try:
        fresh = _rebuilt(sigma)
    except ValueError as error:
        return f"the activation {sigma} cannot be: {error}"
    for name in ("slopes", "bound", "odd", "group"):
        if getattr(sigma, name) != getattr(fresh, name):
            return f"{name} of the activation {sigma} was changed to {getattr(sigma, name)!r}"
    return ""


def _rebuilt(sigma: Activation) -> Activation:
    """The activation with the parameters that its forward pass uses, none of them learned."""
    kind = type_before_parametrizations(sigma)
    if kind is Identity:
        return Identity()
    fresh: Activation = kind(sigma.negative_slope if kind is LeakyReLU else sigma.threshold)
    return fresh


def _other_diffusion(dynamics: Diffusion) -> str:
    """What was changed in the diffusion since it was made."""
    if not (_is_number(dynamics.mu) and dynamics.mu >= 0):
        return f"mu is {dynamics.mu!r}, no number of at least 0"
    if type(dynamics.aggr_module) is not SumAggregation:
        return f"the diffusion adds up its messages, here they go into {type(dynamics.aggr_module).__name__}"
    flow, axis = vars(dynamics).get("flow"), vars(dynamics).get("node_dim")
    if flow != "source_to_target" or axis != -2:
        return f"the diffusion's messages were turned round: flow={flow!r}, node_dim={axis!r}"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _converted(layer: nn.Linear) -> nn.Linear:
    weight, bias = layer.weight.detach(), layer.bias
    if not torch.equal(layer.weight.detach(), weight):
        raise Unproved(f"the parametrised weight of {type(layer).__name__} is not the same twice")
    rows, columns = weight.shape
    copy = nn.Linear(columns, rows, bias=bias is not None, device="meta", dtype=torch.float64).to_empty(device="cpu")
    with torch.no_grad():
        copy.weight.copy_(weight)
        if bias is not None:
            copy.bias.copy_(bias)
    return copy.requires_grad_(False)
