"""The self-check of every certificate: what the model says of the clean graph must agree with what is claimed of all.

The clean graph is within every budget. So the model's own clean scores lie in the bounds without any budget and in
those within the budget, and no certified margin exceeds the clean one. Bounds that contradict the model are bounds of
something else: of other weights, of another function, or of numbers that overflowed.
"""

from __future__ import annotations

from torch import Tensor

from contractive_gnn.certificates.bounds import Box
from contractive_gnn.certificates.rounding import Unproved


def holds_clean(box: Box, clean: Tensor, what: str) -> None:
    """Make sure that a box is finite and ordered, and that it holds the clean values.

    Args:
        box: ``[n, c]``.
        clean: what the model says on the clean graph, ``[n, c]``.
        what: is bounded, for the reason.

    Raises:
        Unproved: it does not.
    """
    if not bool(clean.isfinite().all()):
        raise Unproved("the model's own scores on the clean graph are not all finite")
    if not bool((box.lower.isfinite() & box.upper.isfinite()).all()):
        raise Unproved(f"the bound of {what} is not finite")
    if not bool((box.lower <= box.upper).all()):
        raise Unproved(f"the bound of {what} is not ordered: a lower bound is above its upper one")
    outside = ~((box.lower <= clean) & (clean <= box.upper)).all(dim=1)
    if bool(outside.any()):
        raise Unproved(
            f"the model's own scores on the clean graph are outside of the bound of {what} at {int(outside.sum())} "
            f"nodes, the first is {int(outside.nonzero()[0])}: the model computes something else than what is bounded"
        )


def margins_hold_clean(margin: Tensor, clean: Tensor) -> None:
    """Make sure that no certified margin exceeds the one on the clean graph.

    Args:
        margin: lower bounds of the predicted class's lead, ``[n]``.
        clean: scores on the clean graph, ``[n, classes]``, float64.

    Raises:
        Unproved: one does, or is not a number.
    """
    if clean.shape[1] < 2:
        return
    first, second = clean.topk(2, dim=1).values.unbind(dim=1)
    beyond = ~(margin <= first - second)
    if bool(beyond.any()):
        raise Unproved(
            f"a certified margin exceeds the model's own on the clean graph at {int(beyond.sum())} nodes, the first is "
            f"{int(beyond.nonzero()[0])}: the bound is wrong for this model"
        )
