"""DeepRobust's attacks behind our interface; each has its own module, and is had by name."""

# imported for their effect: each registers its attacks
from contractive_gnn.attacks.deeprobust import (  # noqa: F401
    dice,
    fga,
    metattack,
    nettack,
    node_embedding,
    rnd,
    sga,
    topology,
)
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack

__all__ = ["DeepRobustAttack"]
