"""Whether a victim's gradient can be trusted to find its weak spots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.losses import margin
from contractive_gnn.attacks.whitebox.objective import Objective, gradient

# a rectified unit that is off can give a handful of flips a zero gradient without any masking
_MANY: Final = 0.05

# at least so many flips are tried at once, whatever the budget: one alone is likely to lie where it changes nothing
_TRIED: Final = 64


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Whether the victim's gradient can be trusted to find its weak spots.

    Args:
        gradient: "ok"; "zero" where it vanishes everywhere (or there is none); "non-finite" where an entry is NaN or ∞.
        zero_fraction: share of the considered flips whose gradient at the clean graph is exactly 0.
        reacts: whether any random discrete flips changed the logits at all. Where none did, as for an MLP under edge
            flips, a zero gradient is the truth.
        unreliable: reasons not to believe that this attack is the strongest; empty where there is none.
    """

    gradient: str
    zero_fraction: float
    reacts: bool
    unreliable: tuple[str, ...]


def diagnose(flips: Flips, objective: Objective, clean: Tensor, budget: int) -> Diagnosis:
    """Look for gradient masking at the clean graph, before a search counts.

    The gradient is that of a weighted mean of the margins, which does not saturate whatever the victim's confidence.
    The weights differ, so that what one end of an edge gains and the other loses is no gradient of 0. Besides NaN and a
    gradient that vanishes everywhere: where it is exactly 0 for a twentieth of the flips or more, as many of these as
    the budget allows, and at least 64, are done at once, and if the logits of the objective's nodes change, the
    gradient hides something.

    Args:
        flips: what is considered.
        objective: its nodes count.
        clean: the victim's logits on the clean graph.
        budget: how many flips to try at once, where it is more than 64.
    """
    weights = torch.linspace(0.7, 1.3, objective.nodes.numel(), device=clean.device).square()
    unsaturated = replace(objective, loss=lambda logits, labels: (weights * margin(logits, labels)).mean())
    _, slope = gradient(flips, unsaturated, flips.none())
    tried = max(budget, _TRIED)
    draws = [flips.done(flips.draw(tried)) for _ in range(2)]
    reacts = any(_differ(objective, clean, logits) for logits in draws)
    if slope is None:
        return Diagnosis(gradient="zero", zero_fraction=1.0, reacts=reacts, unreliable=_no_gradient(reacts))
    finite = torch.isfinite(slope)
    zero = slope == 0
    share = float(zero.double().mean())
    if not bool(finite.all()):
        reason = f"{int((~finite).sum())} of {flips.size} entries of the gradient are not finite"
        return Diagnosis(gradient="non-finite", zero_fraction=share, reacts=reacts, unreliable=(reason,))
    if bool(zero.all()):
        return Diagnosis(gradient="zero", zero_fraction=1.0, reacts=reacts, unreliable=_no_gradient(reacts))
    chosen = torch.zeros_like(zero)
    hidden = zero.nonzero().flatten()
    chosen[hidden[torch.randperm(hidden.numel(), device=hidden.device)[:tried]]] = True
    masked = share >= _MANY and _differ(objective, clean, flips.done(chosen))
    reason = f"flips whose gradient is exactly 0 ({share:.1%} of those considered) change the logits: masked gradient"
    return Diagnosis(gradient="ok", zero_fraction=share, reacts=reacts, unreliable=(reason,) if masked else ())


def _no_gradient(reacts: bool) -> tuple[str, ...]:
    return ("the gradient is zero everywhere, yet flips change the logits: masked gradient",) if reacts else ()


def _differ(objective: Objective, clean: Tensor, logits: Tensor) -> bool:
    # sums over edges in another order differ in the last bits
    difference = (logits - clean)[objective.nodes].abs().max() / objective.temperature
    return not float(difference) <= 1e-4
