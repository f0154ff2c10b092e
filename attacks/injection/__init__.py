"""Attacks that add nodes to a graph, each with a few edges, and change nothing of what was there.

A budget is so many new nodes with so many edges each: 60 × 20 on Cora, 90 × 10 on Citeseer, 200 × 100 on Pubmed in the
literature. On the command line ``tdgia:60x20``; in Python ``attack(model, data, "tdgia", nodes=60, edges=20)``.
"""

from contractive_gnn.attacks.injection.adaptive import AdaptiveInjection
from contractive_gnn.attacks.injection.attack import Injection, InjectionAttack
from contractive_gnn.attacks.injection.features import FeatureRange
from contractive_gnn.attacks.injection.goal import Goal
from contractive_gnn.attacks.injection.grown import GrownGraph
from contractive_gnn.attacks.injection.pgd import PGDInjection
from contractive_gnn.attacks.injection.random_injection import RandomInjection
from contractive_gnn.attacks.injection.rules import check_injection
from contractive_gnn.attacks.injection.sequential import AGIA, TDGIA

__all__ = [
    "AGIA",
    "TDGIA",
    "AdaptiveInjection",
    "FeatureRange",
    "Goal",
    "GrownGraph",
    "Injection",
    "InjectionAttack",
    "PGDInjection",
    "RandomInjection",
    "check_injection",
]
