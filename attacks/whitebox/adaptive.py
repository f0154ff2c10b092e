"""An attack through the victim."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from contractive_gnn.attacks.base import Attack, Knowledge, Scope

#: what :func:`check_victim` may find that speaks against an attack, the answer that does, and the reason
FLAGS: Final[tuple[tuple[str, bool, str], ...]] = (
    ("repeats", False, "the victim answers at random in evaluation mode: every count of errors is one draw"),
    ("changes_itself", True, "the victim writes its parameters or buffers while it answers: each answer is another's"),
    (
        "keeps_graph",
        True,
        "the victim keeps a graph that it saw: without half of the edges its scores are the same, and yet they depend "
        "on which node is which",
    ),
)


class AdaptiveAttack(Attack):
    """An attack through the victim, whose provenance says, under params, what :func:`weigh` says of it."""

    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "adaptive"

    def _tell(self, read: dict[str, Any], notes: dict[str, Any]) -> None:
        """Keep what :func:`check_victim` and :func:`weigh` say for the provenance."""
        self._notes.update(notes, **read)
        told = [reason for flag, bad, reason in FLAGS if read.get(flag, not bad) is bad]
        self._notes["unreliable"] = [*notes["unreliable"], *told]
