"""Graph neural networks whose layers are contractive ODEs, with bounds that a program can check.

The names of ``__all__`` are the promise of this library. Each is loaded when it is first asked for, so that
``import contractive_gnn as cg`` costs nothing. The rooms behind them, as ``cg.nn`` and ``cg.attacks``, are loaded in
the same way.
"""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from contractive_gnn.extras import needs

if TYPE_CHECKING:  # what type checkers and editors read; at run time __getattr__ finds the same
    from contractive_gnn.attacks.base import Attack, Budget
    from contractive_gnn.attacks.run import attack
    from contractive_gnn.bench.api import benchmark
    from contractive_gnn.bench.explain import explain
    from contractive_gnn.certificates.budget import FeatureBudget, FlipBudget
    from contractive_gnn.certificates.certificate import Certificate, certify
    from contractive_gnn.datasets import contextual_sbm, load
    from contractive_gnn.dynamics import (
        AdjacencyFlow,
        CoupledFlow,
        Diffusion,
        Dynamics,
        GradientFlow,
        GraphGradientFlow,
        HamiltonianFlow,
        ImplicitFlow,
    )
    from contractive_gnn.dynamics.field import VectorField
    from contractive_gnn.graph import Graph
    from contractive_gnn.nn import (
        CSGNN,
        AlternatingConv,
        CoupledConv,
        Ensemble,
        EquilibriumConv,
        Flow,
        FlowConv,
        FlowGNN,
        build,
        robust,
        robust_provable,
    )
    from contractive_gnn.pretrained import load_pretrained
    from contractive_gnn.testing import verify
    from contractive_gnn.training import evaluate, fit, predict

__version__ = "0.2.0"

__all__ = [
    "CSGNN",
    "AdjacencyFlow",
    "AlternatingConv",
    "Attack",
    "Budget",
    "Certificate",
    "CoupledConv",
    "CoupledFlow",
    "Diffusion",
    "Dynamics",
    "Ensemble",
    "EquilibriumConv",
    "FeatureBudget",
    "FlipBudget",
    "Flow",
    "FlowConv",
    "FlowGNN",
    "GradientFlow",
    "Graph",
    "GraphGradientFlow",
    "HamiltonianFlow",
    "ImplicitFlow",
    "VectorField",
    "attack",
    "benchmark",
    "build",
    "certify",
    "contextual_sbm",
    "evaluate",
    "explain",
    "fit",
    "load",
    "load_pretrained",
    "predict",
    "robust",
    "robust_provable",
    "verify",
]

# where __getattr__ finds each name; tests/test_face.py compares it with the imports above
_PLACES = {
    "contractive_gnn.attacks": ("Attack", "Budget", "attack"),
    "contractive_gnn.bench.api": ("benchmark",),
    "contractive_gnn.bench.explain": ("explain",),
    "contractive_gnn.certificates": ("Certificate", "FeatureBudget", "FlipBudget", "certify"),
    "contractive_gnn.datasets": ("contextual_sbm", "load"),
    "contractive_gnn.dynamics": (
        "AdjacencyFlow",
        "CoupledFlow",
        "Diffusion",
        "Dynamics",
        "GradientFlow",
        "GraphGradientFlow",
        "HamiltonianFlow",
        "ImplicitFlow",
    ),
    "contractive_gnn.dynamics.field": ("VectorField",),
    "contractive_gnn.graph": ("Graph",),
    "contractive_gnn.nn": (
        "CSGNN",
        "AlternatingConv",
        "CoupledConv",
        "Ensemble",
        "EquilibriumConv",
        "Flow",
        "FlowConv",
        "FlowGNN",
        "build",
        "robust",
        "robust_provable",
    ),
    "contractive_gnn.pretrained": ("load_pretrained",),
    "contractive_gnn.testing": ("verify",),
    "contractive_gnn.training": ("evaluate", "fit", "predict"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}
_ROOMS = (
    "activations",
    "attacks",
    "bench",
    "certificates",
    "datasets",
    "dynamics",
    "integrators",
    "inverse",
    "nn",
    "norms",
    "operators",
    "pretrained",
    "testing",
    "training",
)


def __getattr__(name: str) -> Any:
    if name in _PLACE_OF:
        place = _PLACE_OF[name]
        with needs("bench", f"{__name__}.{name}") if place.startswith("contractive_gnn.bench") else nullcontext():
            found = getattr(importlib.import_module(place), name)
        globals()[name] = found  # asked for once
        return found
    if name in _ROOMS:
        return importlib.import_module(f"contractive_gnn.{name}")
    from contractive_gnn.names import unknown

    raise AttributeError(unknown(f"name in {__name__}", [name], [*__all__, *_ROOMS]))


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, *(name for name in globals() if name.startswith("__"))})
