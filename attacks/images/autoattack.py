r"""AutoAttack in its standard version, put together from torchattacks' single attacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from contractive_gnn.attacks.images.apgd import APGD
from contractive_gnn.attacks.images.attack import ImageAttack, ImageAttackResult, Run
from contractive_gnn.attacks.images.ball import BallNorm
from contractive_gnn.attacks.images.fab import FAB
from contractive_gnn.attacks.images.square import Square
from contractive_gnn.attacks.images.victim import Victim
from contractive_gnn.checks import check_whole


@dataclass(frozen=True, kw_only=True)
class AutoAttack(ImageAttack):
    r"""AutoAttack, standard version (Croce, Hein, ICML 2020): four attacks, each on what survived those before.

    ==========  ====================================================================
    attack      setting
    ==========  ====================================================================
    APGD-CE     cross-entropy, 100 steps, one start
    APGD-T      targeted DLR loss, nine targets, 100 steps, one start
    FAB-T       nine targets, 100 steps, one start
    Square      5,000 queries, schedule not rescaled
    ==========  ====================================================================

    These are the settings of the authors' code. torchattacks' class of the same name is *not* that (version 3.5.1): its
    ``"standard"`` leaves APGD, APGD-T and FAB at 10 steps, rescales Square's schedule, moves all images of a batch by
    the first one's step in APGD-T (ℓ2), and takes its seeds from the clock. So this class puts its single attacks
    together itself; see :class:`APGD` for the step.

    Args:
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε, raw pixel units.
        seed: of all four.
        num_steps: of APGD and FAB; fewer than 100 is not the standard version, and shows in the name.
        num_queries: of Square; likewise.

    Raises:
        ValueError: for numbers out of range; (called) for a model with fewer than four classes.
    """

    num_steps: int = 100
    num_queries: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("num_steps", self.num_steps, least=1)
        check_whole("num_queries", self.num_queries, least=1)

    @property
    def name(self) -> str:
        """``autoattack``; with the numbers where they are not the standard ones."""
        if (self.num_steps, self.num_queries) == (100, 5000):
            return "autoattack"
        return f"autoattack-{self.num_steps}-{self.num_queries}"

    def stages(self) -> tuple[ImageAttack, ...]:
        """The four attacks."""
        ball = {"norm": self.norm, "epsilon": self.epsilon, "seed": self.seed}
        return (
            APGD(**ball, loss="ce", num_steps=self.num_steps),  # type: ignore[arg-type]
            APGD(**ball, loss="targeted", num_steps=self.num_steps),  # type: ignore[arg-type]
            FAB(**ball, num_steps=self.num_steps),  # type: ignore[arg-type]
            Square(**ball, num_queries=self.num_queries),  # type: ignore[arg-type]
        )

    def _runs(self, victim: Victim, classes: int) -> Iterator[Run]:
        for stage in self.stages():
            yield from stage._runs(victim, classes)


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: BallNorm = "l2",
    epsilon: float,
    seed: int = 0,
    version: str = "standard",
) -> ImageAttackResult:
    """:class:`AutoAttack` on a batch of images.

    Args:
        model: ``[n, c, H, W]`` in [0, 1] to scores ``[n, classes]``.
        x: images.
        y: labels, ``[n]``.
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε, raw pixel units.
        seed: of all that is drawn.
        version: ``"standard"``; no other is built here.

    Raises:
        ValueError: for another version, and see :class:`AutoAttack`.

    Example:
        ``autoattack(model, images, labels, epsilon=36 / 255).survived.float().mean()``
    """
    if version != "standard":
        raise ValueError(f"version must be 'standard', got {version!r}: put others together from APGD, FAB and Square")
    return AutoAttack(norm=norm, epsilon=epsilon, seed=seed)(model, x, y)
