"""What ``verify`` prints of what is kept, and of what is not."""

from __future__ import annotations

import pytest
import torch

from contractive_gnn.bench.verify import counterexample, kept_to, table
from contractive_gnn.dynamics import FIELDS
from contractive_gnn.dynamics.conservative import EnergyGradient
from contractive_gnn.testing import verify_field


def test_a_row_says_how_well_is_kept_what_should_be() -> None:
    verdict = verify_field("mass-field", FIELDS.get("mass-field"), tries=40)
    assert 0 < float(kept_to(verdict)) < 1e-13
    plain = verify_field("perceptron", FIELDS.get("perceptron"), tries=40)
    assert kept_to(plain) == ""
    headers = [column.header for column in table([verdict, plain]).columns]
    assert headers[0] == "field"  # with a graph or without
    assert headers.count("kept to") == 1


def test_a_counterexample_is_a_state_and_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EnergyGradient, "forward", lambda self, x: self.energy.gradient(x))
    verdict = verify_field("hamiltonian", FIELDS.get("separable-hamiltonian"), tries=40)
    text = counterexample(verdict)
    assert text.startswith("hamiltonian: keeps the energy: ⟨X, ∇H⟩ = 0, claimed 0 in l2, found 0.")
    _, finding = verdict.broken[0]
    shown = text[text.index("X(x) = ") :]
    for value in torch.as_tensor(finding.y).flatten().tolist():
        assert f"{value:.4f}" in shown
