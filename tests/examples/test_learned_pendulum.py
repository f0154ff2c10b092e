"""The network with a Hamiltonian predicts further, and keeps areas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contractive_gnn.testing.steps import sample_jacobians, volume_defect


def test_structure_predicts_further(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("learned_pendulum")
    error = {name: float((orbit - shown["truth"]).norm()) for name, orbit in shown["orbits"].items()}
    assert error["Hamiltonian"] < 0.5 * error["residual"]
    areas = {
        name: float(volume_defect(sample_jacobians(model, shown["truth"])).max())
        for name, model in shown["models"].items()
    }
    assert areas["Hamiltonian"] < 1e-13
    assert areas["residual"] > 1e-3
