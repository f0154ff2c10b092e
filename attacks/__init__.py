"""Attacks on graphs: one interface over DeepRobust, PyG and our own white-box attacks."""

# imported for their effect: each registers its attacks
from contractive_gnn.attacks import (  # noqa: F401
    auto,
    deeprobust,
    deletion,
    evolution,
    injection,
    integrated_gradients,
    joint_flips,
    linf_features,
    meta_pgd,
    metacon,
    metattack,
    nettack,
    noise,
    prbcd,
    whitebox,
)
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
from contractive_gnn.attacks.perturbation_file import (
    PerturbationKey,
    PerturbedGraph,
    load_perturbations,
    save_perturbations,
)
from contractive_gnn.attacks.run import attack
from contractive_gnn.attacks.symbiotic import SymbioticResult, poison_and_evade

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackError",
    "AttackResult",
    "Budget",
    "Perturbation",
    "PerturbationKey",
    "PerturbedGraph",
    "SymbioticResult",
    "attack",
    "get",
    "load_perturbations",
    "poison_and_evade",
    "register",
    "save_perturbations",
]
