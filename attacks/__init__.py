"""Attacks on graphs: one interface over DeepRobust, PyG and our own white-box attacks."""

from contractive_gnn.attacks.base import (
    ATTACKS,
    Attack,
    AttackError,
    AttackResult,
    Budget,
    Perturbation,
    get,
    register,
)

__all__ = ["ATTACKS", "Attack", "AttackError", "AttackResult", "Budget", "Perturbation", "get", "register"]
