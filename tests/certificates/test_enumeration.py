"""A fixed part of the enumeration in docs/experiments/: every graph of up to five nodes, and the faults put back."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

PATH = Path(__file__).parents[2] / "docs" / "experiments" / "certify_enumeration.py"


@pytest.fixture(scope="module")
def enumeration() -> Any:
    spec = importlib.util.spec_from_file_location("certify_enumeration", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_no_graph_changes_a_certified_prediction(enumeration: Any, dtype: torch.dtype) -> None:
    counts: Counter[str] = Counter()
    for seed, (sigma, space) in enumerate(
        [("huber", "class"), ("identity", "class"), ("tanh", "hidden"), ("soft-threshold", "class")]
    ):
        enumeration.judge(enumeration.case(sigma, space, dtype, seed), counts)
    assert counts["changed"] > 0
    assert counts["broken"] == 0
    assert counts["certified"] > 0 or dtype == torch.bfloat16


@pytest.mark.parametrize("letter", ["(a)", "(b)", "(c)", "(d)"])
def test_each_fault_is_noticed_by_the_self_check_or_the_listing(enumeration: Any, letter: str) -> None:
    (fault, make) = next(value for name, value in enumeration.MUTATIONS.items() if name.startswith(letter))
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for seed in range(3):
        with fault():
            enumeration.judge(make(seed), after)
        enumeration.judge(make(seed), before)
    assert after["refused"] + after["budgets_broken"] > 0
    assert before["broken"] == 0
    assert letter in ("(c)", "(d)") or before["refused"] == 0  # in these two nothing is certified at all
