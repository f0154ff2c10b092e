"""White-box evasion: projected gradient ascent through the victim itself, over edges or over binary features.

Every flip that is considered has a relaxed variable p ∈ [0, 1]; the victim sees an edge with weight 1 − p and a
non-edge with weight p (a feature entry x as x + (1 − 2x) p). With the budget b the attack solves

    max_p  L(victim(p))   subject to  0 ≤ p ≤ 1, Σ p ≤ b

by projected gradient ascent, rounds p, and then improves the rounded flips themselves by exchanging the least useful
ones for the most promising ones. Whatever counts is measured on the discrete graph, by the number of nodes
misclassified there.

Xu et al., *Topology Attack and Defense for Graph Neural Networks* (IJCAI 2019), for the relaxation; Geisler et al.,
*Robustness of Graph Neural Networks at Scale* (NeurIPS 2021), for the random blocks and the tanh margin; Croce & Hein,
*Reliable evaluation of adversarial robustness* (ICML 2020), for a loss that does not depend on the scale of the logits.
"""

from contractive_gnn.attacks.whitebox.adaptive import AdaptiveAttack
from contractive_gnn.attacks.whitebox.ascent import Found, search
from contractive_gnn.attacks.whitebox.constraints import Constraint, GlobalBudget, LocalBudget
from contractive_gnn.attacks.whitebox.diagnosis import Diagnosis, diagnose
from contractive_gnn.attacks.whitebox.edge_flips import EdgeFlips
from contractive_gnn.attacks.whitebox.feature_flips import FeatureFlips
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.local_pgd import LocalPGD
from contractive_gnn.attacks.whitebox.losses import (
    LOSSES,
    Loss,
    carlini_wagner,
    cross_entropy,
    margin,
    prob_margin,
    tanh_margin,
)
from contractive_gnn.attacks.whitebox.lrbcd import LRBCD
from contractive_gnn.attacks.whitebox.objective import Objective, Score, gradient
from contractive_gnn.attacks.whitebox.pgd import WhiteboxPGD, WhiteboxPGDFeatures
from contractive_gnn.attacks.whitebox.projection import project_onto_budget
from contractive_gnn.attacks.whitebox.random_flips import weigh
from contractive_gnn.attacks.whitebox.victim import check_victim

__all__ = [
    "LOSSES",
    "LRBCD",
    "AdaptiveAttack",
    "Constraint",
    "Diagnosis",
    "EdgeFlips",
    "FeatureFlips",
    "Flips",
    "Found",
    "GlobalBudget",
    "LocalBudget",
    "LocalPGD",
    "Loss",
    "Objective",
    "Score",
    "WhiteboxPGD",
    "WhiteboxPGDFeatures",
    "carlini_wagner",
    "check_victim",
    "cross_entropy",
    "diagnose",
    "gradient",
    "margin",
    "prob_margin",
    "project_onto_budget",
    "search",
    "tanh_margin",
    "weigh",
]
