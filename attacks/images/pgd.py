r"""Projected gradient ascent with a fixed step, and how far it can get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from contractive_gnn.attacks.images.attack import ImageAttack, ImageAttackResult, Run
from contractive_gnn.attacks.images.ball import BallNorm
from contractive_gnn.attacks.images.losses import SPREAD, spread_scale
from contractive_gnn.attacks.images.victim import Victim
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.extras import needs


@dataclass(frozen=True, kw_only=True)
class PGD(ImageAttack):
    r"""torchattacks' PGD (Madry et al., ICLR 2018) of the cross-entropy, with steps of ``reach · ε/num_steps``.

    All its steps together are ``reach · ε`` long. At 2.5, the default, every point of the ball is reached from any
    other. Below 1 it cannot even cross the ball: foolbox's ℓ2 PGD of ten steps has a reach of 0.25 by default, and the
    accuracy that it leaves says little.

    Args:
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε, raw pixel units.
        seed: of the starts.
        num_steps: of each run.
        restarts: runs; the first starts at x where there are several, the others at random points of the ball.
        reach: length of all steps in units of ε.
        spread: to which the scores of each image are scaled in the cross-entropy, see
            :class:`~contractive_gnn.attacks.images.APGD`; None: not at all.

    Raises:
        ValueError: for numbers out of range.
    """

    num_steps: int = 50
    restarts: int = 4
    reach: float = 2.5
    spread: float | None = SPREAD

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("num_steps", self.num_steps, least=1)
        check_whole("restarts", self.restarts, least=1)
        check_real("reach", self.reach, above=0)
        if self.spread is not None:
            check_real("spread", self.spread, above=0)

    @property
    def name(self) -> str:
        """``pgd``."""
        return "pgd"

    def _runs(self, victim: Victim, classes: int) -> Iterator[Run]:
        for restart in range(self.restarts):
            yield partial(self._run, victim, restart > 0 or self.restarts == 1)

    def _run(self, victim: Victim, random_start: bool, x: Tensor, y: Tensor) -> Tensor:
        with needs("images", "PGD"):
            import torchattacks

        with torch.no_grad():
            scaled = _Scaled(victim, spread_scale(victim(x), self.spread))
        step = self.reach * self.epsilon / self.num_steps
        common = {"eps": self.epsilon, "alpha": step, "steps": self.num_steps, "random_start": random_start}
        if self.norm == "l2":
            # it adds a constant to the gradient's length, and the gradient is that of a batch's mean
            attack = torchattacks.PGDL2(scaled, **common, eps_for_division=1e-30)
        else:
            attack = torchattacks.PGD(scaled, **common)
        attack.set_device(x.device)
        found: Tensor = attack(x, y)
        return found


class _Scaled(nn.Module):
    """A victim whose scores are multiplied by a number for each image of one batch, in eval mode."""

    def __init__(self, victim: Victim, scale: Tensor) -> None:
        super().__init__()
        self.victim = victim
        self.register_buffer("scale", scale[:, None])
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scale * self.victim(x)
        return scores


def full_reach_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: BallNorm,
    epsilon: float,
    num_steps: int = 50,
    restarts: int = 4,
    seed: int = 0,
) -> ImageAttackResult:
    """:class:`PGD` on a batch of images, with steps that reach every point of the ball.

    Example:
        ``full_reach_pgd(model, images, labels, norm="l2", epsilon=0.5).survived.float().mean()``
    """
    return PGD(norm=norm, epsilon=epsilon, num_steps=num_steps, restarts=restarts, seed=seed)(model, x, y)
