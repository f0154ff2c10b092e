"""What every attack shares: the budget, the checks around a run, the result and the registry."""

from contractive_gnn.attacks.base.attack import Attack
from contractive_gnn.attacks.base.budget import Budget
from contractive_gnn.attacks.base.errors import AttackError
from contractive_gnn.attacks.base.flips import (
    edge_difference,
    feature_difference,
    flip_edges,
    is_binary,
    undirected_edges,
)
from contractive_gnn.attacks.base.kinds import Kind, Knowledge, Scope
from contractive_gnn.attacks.base.options import check_choice, check_count, name_of
from contractive_gnn.attacks.base.perturbation import Perturbation
from contractive_gnn.attacks.base.registry import ATTACKS, get, register
from contractive_gnn.attacks.base.result import AttackResult

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackError",
    "AttackResult",
    "Budget",
    "Kind",
    "Knowledge",
    "Perturbation",
    "Scope",
    "check_choice",
    "check_count",
    "edge_difference",
    "feature_difference",
    "flip_edges",
    "get",
    "is_binary",
    "name_of",
    "register",
    "undirected_edges",
]
