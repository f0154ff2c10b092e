r"""Interval bounds of the node-wise encoder, and bounds of its rounding errors.

The encoder is a chain of affine maps with ReLUs between them, applied to each node's features alone. Its first map is
bounded exactly for every unit; a further map ``W`` sends the interval ``c ± r`` to ``W c ± |W| r`` (Gowal et al.,
*On the effectiveness of interval bound propagation*, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contractive_gnn.certificates.bounds import Box
from contractive_gnn.certificates.budget import FeatureBudget
from contractive_gnn.certificates.rounding import affine_rounding, dtype_of

#: gains of nodes, units and entries that are looked at together
_CHUNK = 20_000_000
#: nodes that are bounded together, few enough for a processor's cache
_ROWS = 4096


def encoder_bounds(
    layers: Sequence[nn.Linear],
    x: Tensor,
    budget: FeatureBudget,
    *,
    rectify_last: bool,
    dtype: torch.dtype | None = None,
    unit_roundoff: float | None = None,
) -> Box:
    """Bounds of the encoder's output over all features within the budget.

    Args:
        layers: its affine maps.
        x: clean features ``[n, d]``, dense.
        budget: of the attacker.
        rectify_last: whether a ReLU follows the last map.
        dtype: in which the model runs; None bounds the exact real function.
        unit_roundoff: deprecated, the ``eps`` of that dtype.

    Raises:
        ValueError: features that are not 0 or 1 where entries are flipped.
        Unproved: the rounding errors in ``dtype`` cannot be bounded.
    """
    dtype = dtype if unit_roundoff is None else dtype_of(unit_roundoff)
    boxes = [_rows_bounds(layers, rows, budget, rectify_last, dtype) for rows in torch.split(x, _ROWS)]
    return Box(torch.cat([box.lower for box in boxes]), torch.cat([box.upper for box in boxes]))


def _rows_bounds(
    layers: Sequence[nn.Linear], x: Tensor, budget: FeatureBudget, rectify_last: bool, dtype: torch.dtype | None
) -> Box:
    box, error = _first_layer(layers[0], x, budget), x.new_zeros(())
    size = x.abs() + budget.linf
    if budget.flips:
        size = size.clamp(min=1.0)  # any of them may be flipped
    if dtype is not None and len(x):
        terms = (x.shape[1] if not budget.empty else int((x != 0).sum(dim=1).amax())) + 4
        error = affine_rounding(layers[0].weight, layers[0].bias, size, terms, dtype)
    for layer in layers[1:]:
        box, size = Box(box.lower.relu(), box.upper.relu()), torch.maximum(box.lower.abs(), box.upper.abs()) + error
        box = affine_bounds(layer, box)
        if dtype is not None:
            own = affine_rounding(layer.weight, layer.bias, size, layer.weight.shape[1] + 4, dtype)
            error = error @ layer.weight.abs().t() + own
    box = box.widened(error)
    return Box(box.lower.relu(), box.upper.relu()) if rectify_last else box


def affine_bounds(layer: nn.Linear, box: Box) -> Box:
    """What an affine map makes of a box, ``c ± r`` to ``W c + b ± |W| r``."""
    centre, radius = (box.upper + box.lower) / 2, (box.upper - box.lower) / 2
    middle, spread = _affine(layer, centre), radius @ layer.weight.abs().t()
    return Box(middle - spread, middle + spread)


def _affine(layer: nn.Linear, x: Tensor) -> Tensor:
    out = x @ layer.weight.t()
    return out if layer.bias is None else out + layer.bias


def _first_layer(layer: nn.Linear, x: Tensor, budget: FeatureBudget) -> Box:
    clean = _affine(layer, x)
    if budget.linf:
        reach = budget.linf * layer.weight.abs().sum(dim=1)
        return Box(clean - reach, clean + reach)
    if budget.flips:
        if not bool(((x == 0) | (x == 1)).all()):
            raise ValueError("a budget of flipped entries needs features of 0 and 1; use FeatureBudget(linf=…)")
        return Box(
            clean - _largest_gains(-layer.weight, x, budget.flips),
            clean + _largest_gains(layer.weight, x, budget.flips),
        )
    return Box.exact(clean)


def _largest_gains(weight: Tensor, x: Tensor, flips: int) -> Tensor:
    """The most that flipping entries of a node's features adds to every unit, ``[n, units]``: exact.

    Of what a node with s ones can add, the best are among the ``flips + s`` largest weights: it has at most s.
    """
    flips = min(flips, x.shape[1])
    ones, present = _ones(x)
    best, place = weight.topk(min(x.shape[1], flips + ones.shape[1]), dim=1)
    parts = []
    size = max(1, weight.shape[0] * (best.shape[1] + ones.shape[1]))
    for rows, own, there in zip(
        *(torch.split(part, max(1, _CHUNK // size)) for part in (x, ones, present)), strict=True
    ):
        added = best.masked_fill(rows[:, place] != 0, 0.0)
        removed = -weight[:, own].transpose(0, 1).masked_fill(~there[:, None, :], 0.0)
        parts.append(torch.cat([added, removed], dim=2).topk(flips, dim=2).values.clamp(min=0).sum(dim=2))
    return torch.cat(parts)


def _ones(x: Tensor) -> tuple[Tensor, Tensor]:
    """The features that each row has, padded to ``[n, most]``, and where that is no padding."""
    count = (x != 0).sum(dim=1)
    present = torch.arange(int(count.max()) if len(x) else 0, device=x.device) < count[:, None]
    ones = torch.zeros(present.shape, dtype=torch.long, device=x.device)
    ones[present] = x.nonzero()[:, 1]
    return ones, present
