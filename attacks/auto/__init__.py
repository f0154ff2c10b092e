"""One verdict on a model: the worst of a fixed ensemble of attacks, node by node, and whether it can be trusted."""

from contractive_gnn.attacks.auto.attack import AutoAttack
from contractive_gnn.attacks.auto.members import Member, ensemble
from contractive_gnn.attacks.auto.verdict import Verdict, auto

__all__ = ["AutoAttack", "Member", "Verdict", "auto", "ensemble"]
