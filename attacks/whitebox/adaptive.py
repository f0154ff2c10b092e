"""An attack through the victim."""

from __future__ import annotations

from typing import Any, ClassVar

from contractive_gnn.attacks.base import Attack, Knowledge, Scope


class AdaptiveAttack(Attack):
    """An attack through the victim, whose provenance says, under params, what :func:`weigh` says of it."""

    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "adaptive"

    def _tell(self, read: dict[str, Any], notes: dict[str, Any]) -> None:
        """Keep what :func:`check_victim` and :func:`weigh` say for the provenance."""
        self._notes.update(notes, **read)
        if not read["repeats"]:
            random = "the victim answers at random in evaluation mode: every count of errors is one draw"
            self._notes["unreliable"] = [*notes["unreliable"], random]
