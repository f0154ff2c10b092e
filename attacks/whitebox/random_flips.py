"""The comparison of what a search found with random flips."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from contractive_gnn.attacks.whitebox.ascent import Found
from contractive_gnn.attacks.whitebox.constraints import Constraint, GlobalBudget
from contractive_gnn.attacks.whitebox.diagnosis import Diagnosis
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.objective import Objective

_RANDOM_DRAWS: Final = 8


def weigh(
    found: Found,
    flips: Flips,
    objective: Objective,
    budget: int | Constraint,
    diagnosis: Diagnosis,
    clean: Tensor,
) -> tuple[Found, dict[str, Any]]:
    """Compare with random flips, and say for the provenance how far the attack can be trusted.

    Returns:
        the strongest of ``found`` and eight random choices, and notes: gradient, zero_gradient_fraction, unreliable
        (reasons), found_by, errors (clean, random, found) and nodes, how many could be wrong.

    The attacks add what :func:`check_victim` says: repeats, reads_edges and reads_edge_weight.
    """
    constraint = budget if isinstance(budget, Constraint) else GlobalBudget(budget)
    draws = [constraint.draw(flips) for _ in range(_RANDOM_DRAWS)]
    guesses = [Found(objective.score(flips.done(chosen)), flips, chosen, "random flips") for chosen in draws]
    guess = max(guesses, key=lambda one: one.score)
    reasons = list(diagnosis.unreliable)
    if diagnosis.reacts and guess.score > found.score:
        reasons.append(
            f"random flips cause {guess.score.errors} errors (loss {guess.score.loss:.4g}), the search "
            f"{found.score.errors} (loss {found.score.loss:.4g})"
        )
    strongest = max(found, guess, key=lambda one: one.score)
    return strongest, {
        "gradient": diagnosis.gradient,
        "zero_gradient_fraction": diagnosis.zero_fraction,
        "unreliable": reasons,
        "found_by": strongest.by,
        "errors": {
            "clean": objective.score(clean).errors,
            "random": guess.score.errors,
            "found": strongest.score.errors,
        },
        "nodes": objective.nodes.numel(),
    }
