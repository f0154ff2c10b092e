r"""Projected gradient ascent in an ℓ2 ball, for classifiers of inputs without a graph: images, points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from contractive_gnn.checks import check_real, check_whole


def l2_pgd(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    num_steps: int = 50,
    restarts: int = 4,
    step_size: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: int = 0,
) -> Tensor:
    r"""Inputs with ``‖x̃ − x‖₂ ≤ ε`` and entries in ``[low, high]`` that the model is wrong about, where any is found.

    .. math:: \delta \leftarrow P(\delta + \alpha\, g / \|g\|_2), \qquad g = \nabla_\delta\, \ell(x + \delta, y)

    (Madry et al., ICLR 2018, in ℓ2.) The restarts ascend, in turn, the margin ``max_{j ≠ y} z_j − z_y``, which does not
    saturate, and the cross-entropy. The first one starts at x, the others anywhere in the ball. Every iterate counts,
    not the last one alone, and an input that is lost is left at the first iterate that the model is wrong about. What
    this finds bounds the robust accuracy from above; nothing says that there is no more to find.

    The parameters get no gradient, and the caller's random state is left alone. Put the model into eval mode.

    Args:
        model: ``[n, …]`` to scores ``[n, classes]``, each row of its own input alone.
        x: inputs, real, with entries in ``[low, high]``.
        y: labels, ``[n]``.
        epsilon: ε > 0, for each input.
        num_steps: in each restart.
        restarts: how many.
        step_size: α; None for ``2.5 ε/num_steps``, which reaches every point of the ball from any other.
        low: least entry of an input; −inf for none.
        high: largest entry; inf for none.
        seed: of the starts.

    Returns:
        x̃, of the shape of x: an input that the model is wrong about; else the iterate with the largest margin.

    Raises:
        ValueError: for shapes or labels that do not fit, entries outside ``[low, high]``, and numbers out of their
            range.

    Example:
        ``robust = model(l2_pgd(model, images, labels, epsilon=0.5)).argmax(dim=1) == labels``
    """
    check_real("epsilon", epsilon, above=0)
    check_whole("num_steps", num_steps, least=1)
    check_whole("restarts", restarts, least=1)
    if step_size is not None:
        check_real("step_size", step_size, above=0)
    if not x.is_floating_point() or x.dim() < 2 or y.shape != x.shape[:1] or y.is_floating_point():
        raise ValueError(
            f"x must be real, of shape [n, …], and y hold one label for each, got {x.dtype} {list(x.shape)} and "
            f"{y.dtype} {list(y.shape)}"
        )
    if not low < high or not bool(((x >= low) & (x <= high)).all()):
        raise ValueError(
            f"the entries of x must lie in [low, high] = [{low:g}, {high:g}]: give the range of the inputs"
        )
    x, y = x.detach(), y.long()
    if not len(x):
        return x.clone()
    scores = model(x).detach()
    if scores.dim() != 2 or len(scores) != len(x) or bool((y < 0).any()) or bool((y >= scores.size(1)).any()):
        raise ValueError(
            f"the model must give scores [{len(x)}, classes] and y lie below the number of classes, got scores "
            f"{list(scores.shape)} and labels from {int(y.min())} to {int(y.max())}"
        )
    length = 2.5 * epsilon / num_steps if step_size is None else step_size
    generator = torch.Generator().manual_seed(seed)
    found, worst = x.clone(), _margin(scores, y)
    for restart in range(restarts):
        start = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        start *= epsilon * torch.rand(len(x), generator=generator, dtype=torch.float64).view(-1, *[1] * (x.dim() - 1))
        start /= _length(start).clamp(min=1e-300)
        delta = torch.zeros_like(x) if restart == 0 else _inside(x, start.to(x), epsilon, low, high)
        for step in range(num_steps + 1):
            delta.requires_grad_()
            with torch.enable_grad():
                scores = model(x + delta)
                margin = _margin(scores, y)
                goal = margin.sum() if restart % 2 == 0 else cross_entropy(scores, y, reduction="sum")
                (gradient,) = torch.autograd.grad(goal, delta)
            delta, margin = delta.detach(), margin.detach()
            better = (margin > worst) & (worst <= 0)
            found[better], worst[better] = (x + delta)[better], margin[better]
            if step < num_steps:
                move = gradient / _length(gradient).clamp(min=torch.finfo(x.dtype).tiny)
                delta = _inside(x, delta + length * move, epsilon, low, high)
        if bool((worst > 0).all()):
            break
    return found


def _margin(scores: Tensor, y: Tensor) -> Tensor:
    """``max_{j ≠ y} z_j − z_y``: positive where the model is wrong."""
    own = scores.gather(1, y[:, None])
    return (scores.scatter(1, y[:, None], -torch.inf).amax(dim=1, keepdim=True) - own).squeeze(1)


def _length(delta: Tensor) -> Tensor:
    """``‖δ‖₂`` of each input, to broadcast."""
    length: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return length.view(-1, *[1] * (delta.dim() - 1))


def _inside(x: Tensor, delta: Tensor, epsilon: float, low: float, high: float) -> Tensor:
    """The projection to the ball, and then to the box, which holds x: no entry of δ grows by it."""
    # A little inside, so that the rounding of x + δ does not carry the norm over ε.
    slack = 2 * torch.finfo(x.dtype).eps * delta[0].numel() ** 0.5 * (float(x.abs().max()) + epsilon)
    radius = max(epsilon - slack, 0.0)
    delta = delta * (radius / _length(delta).clamp(min=max(radius, torch.finfo(x.dtype).tiny)))
    return (x + delta).clamp(low, high) - x
