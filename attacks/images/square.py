r"""The Square attack: random search, which no masked gradient can mislead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from contractive_gnn.attacks.images.apgd import NORMS
from contractive_gnn.attacks.images.attack import ImageAttack, Run
from contractive_gnn.attacks.images.victim import Victim
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.extras import needs


@dataclass(frozen=True, kw_only=True)
class Square(ImageAttack):
    r"""Square (Andriushchenko et al., ECCV 2020): torchattacks' random search for squares that lower the margin.

    It asks for scores alone. The schedule of the squares' sizes is that of AutoAttack: made for 10,000 queries, and not
    squeezed into fewer.

    Args:
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε, raw pixel units.
        seed: of the squares.
        num_queries: scores that are asked for, of each image and restart.
        restarts: how many searches.
        largest: share of the image that the first squares cover.

    Raises:
        ValueError: for numbers out of range; (called) for images that the squares do not fit into.
    """

    num_queries: int = 5000
    restarts: int = 1
    largest: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("num_queries", self.num_queries, least=1)
        check_whole("restarts", self.restarts, least=1)
        check_real("largest", self.largest, above=0, most=1)

    @property
    def name(self) -> str:
        """``square``."""
        return "square"

    def _runs(self, victim: Victim, classes: int) -> Iterator[Run]:
        for _ in range(self.restarts):
            yield partial(self._run, victim)

    def _run(self, victim: Victim, x: Tensor, y: Tensor) -> Tensor:
        with needs("images", "Square"):
            import torchattacks

        height, width = x.shape[-2:]
        side = round((self.largest * height * width) ** 0.5)
        if self.norm == "l2":
            side = max(side + 1 - side % 2, 3)  # the squares in ℓ2 have a middle
        if side > min(height, width) or (self.norm == "l2" and min(height, width) < 5):
            raise ValueError(
                f"Square in {self.norm} does not fit images of {height} × {width}: its first squares have a side of "
                f"{side} (in ℓ2 at least 5 × 5 pixels are needed); lower largest = {self.largest:g}"
            )
        attack = torchattacks.Square(
            victim,
            norm=NORMS[self.norm],
            eps=self.epsilon,
            n_queries=self.num_queries,
            p_init=self.largest,
            loss="margin",
            resc_schedule=False,
        )
        attack.set_device(x.device)
        attack.init_hyperparam(x)
        _, found = attack.attack_single_run(x, y)
        moved: Tensor = found
        return moved
