"""Operators, and flows along gradient fields, in rounded arithmetic."""

from __future__ import annotations

import math

import torch

from contractive_gnn.dynamics import GradientFlow, VectorField
from contractive_gnn.nn.composition import Alternating
from contractive_gnn.nn.flow import Flow
from contractive_gnn.nn.lipschitz.rounding import rounded
from contractive_gnn.norms import L2, number
from contractive_gnn.operators import Conv2d, Dense

#: of an entry of a step's Jacobian, along any path: A and Ax twice each, the slope of σ, μ, the product with h, the sum
ROUNDINGS = 8


def rounded_flow(module: Flow | Alternating, dtype: torch.dtype) -> float:
    r"""A bound of the Jacobian's norm with rounded weights and results, of Euler steps along gradient fields.

    A step has the Jacobian ``I ∓ hAᵀDA − hμ`` with slopes D of σ, and absolute values of at most
    ``1 + h(μ + s‖|A|‖²)`` in norm. Known for a matrix and for a kernel; elsewhere ``inf``.
    """
    if isinstance(module, Flow):
        if module.scheme != "euler":
            return math.inf
        h, mu = number(module.step_size()), module.field.anchor_lipschitz
        q, gain = _step(module.field, h, dtype), rounded(h * mu, h * mu, dtype, roundings=ROUNDINGS)
        constant = 1.0
        for _ in range(module.num_steps):
            constant = q * constant + gain
        return constant
    steps = zip((module.contracting, module.expanding), module.steps(), strict=True)
    return math.prod(_step(field, number(step), dtype) for field, step in steps) ** module.num_pairs


def rounded_operator(operator: Conv2d | Dense, constant: float, dtype: torch.dtype) -> float:
    """A bound of the norm of A with two roundings: of its weight and of Ax, where ``constant`` is one of ‖A‖."""
    weight = operator.weight.detach().to("cpu", torch.float64).abs()
    terms = max(weight.shape[:2]) * math.prod(weight.shape[2:])
    return rounded(constant, float(operator.with_weight(weight).norm_bound()), dtype, roundings=2, terms=terms)


def _step(field: VectorField, h: float, dtype: torch.dtype) -> float:
    if type(field) is not GradientFlow or field.norm != L2:
        return math.inf
    operator = field.operator
    if not isinstance(operator, Conv2d | Dense):
        return math.inf
    weight = operator.weight.detach().to("cpu", torch.float64).abs()
    steepest = max(map(abs, field.sigma.slopes))
    whole = 1.0 + h * (field.mu + steepest * float(operator.with_weight(weight).norm_bound()) ** 2)
    terms = 2 * max(weight.shape[:2]) * math.prod(weight.shape[2:])
    return rounded(number(field.lipschitz(h)), whole, dtype, roundings=ROUNDINGS, terms=terms)
