"""The settings of a search, for every attack that has one."""

from __future__ import annotations

from contractive_gnn.attacks.base import check_count
from contractive_gnn.attacks.whitebox.ascent import Found, search
from contractive_gnn.attacks.whitebox.constraints import Constraint
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.objective import Objective
from contractive_gnn.checks import check_real


class Searching:
    """An attack by :func:`search`, whose settings are hyperparameters of its own."""

    def _set_search(self, *, epochs: int, fine_epochs: int, step: float, samples: int, swaps: int) -> None:
        """Keep the settings.

        Raises:
            TypeError, ValueError: a setting of another kind, or out of its range.
        """
        self.epochs = check_count("epochs", epochs)
        self.fine_epochs = check_count("fine_epochs", fine_epochs, least=0)
        check_real("step", step, above=0)
        self.step = float(step)
        self.samples = check_count("samples", samples, least=0)
        self.swaps = check_count("swaps", swaps, least=0)

    def _search_by_settings(self, flips: Flips, objective: Objective, budget: int | Constraint) -> Found:
        """The strongest flips."""
        return search(
            flips,
            objective,
            budget,
            epochs=self.epochs,
            fine_epochs=self.fine_epochs,
            step=self.step,
            samples=self.samples,
            swaps=self.swaps,
        )
