"""EvA: a search for flips of edges by an evolutionary algorithm, which asks the victim for its scores and no more.

Akhondzadeh, Zargarbashi, Cao, Bojchevski, *EvA: Evolutionary Attacks on Graphs* (ICLR 2026, arXiv 2507.08212).
"""

from contractive_gnn.attacks.evolution.attack import EvA
from contractive_gnn.attacks.evolution.objectives import CertifiedErrors

__all__ = ["CertifiedErrors", "EvA"]
