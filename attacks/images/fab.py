r"""The fast adaptive boundary attack: the nearest image of each other class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from contractive_gnn.attacks.images.apgd import NORMS, TARGETS
from contractive_gnn.attacks.images.attack import ImageAttack, Run
from contractive_gnn.attacks.images.victim import Victim
from contractive_gnn.checks import check_whole
from contractive_gnn.extras import needs


@dataclass(frozen=True, kw_only=True)
class FAB(ImageAttack):
    r"""Targeted FAB (Croce, Hein, ICML 2020): torchattacks' steps to the nearest point of a linearised boundary.

    It looks for the nearest image of a wrong class, one class after the other, and does not know ε: what it finds
    beyond ε is brought into the ball, where it mostly fails. It takes entries of a gradient below 1e-8 for 0, so it is
    of no use on scores of that size.

    Args:
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε, raw pixel units.
        seed: of the starts other than x.
        num_steps: of each run.
        restarts: runs for each target; the first from x.

    Raises:
        ValueError: for numbers out of range.
    """

    num_steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("num_steps", self.num_steps, least=1)
        check_whole("restarts", self.restarts, least=1)

    @property
    def name(self) -> str:
        """``fab-t``."""
        return "fab-t"

    def _runs(self, victim: Victim, classes: int) -> Iterator[Run]:
        for rank in range(1, min(TARGETS, classes - 1) + 1):
            for restart in range(self.restarts):
                yield partial(self._run, victim, rank, restart)

    def _run(self, victim: Victim, rank: int, restart: int, x: Tensor, y: Tensor) -> Tensor:
        with needs("images", "FAB"):
            import torchattacks

        attack = torchattacks.FAB(
            victim, norm=NORMS[self.norm], eps=self.epsilon, steps=self.num_steps, multi_targeted=True
        )
        attack.set_device(x.device)
        attack.target_class = rank + 1  # counted from the largest score, which is that of the label
        with torch.no_grad():
            found: Tensor = attack.attack_single_run_targeted(x, y, use_rand_start=restart > 0)
        return found
