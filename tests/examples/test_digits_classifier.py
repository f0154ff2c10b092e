"""The certificates of the digits hold where their attacks failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torchattacks")


def test_a_certified_classifier(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("digits_classifier")
    found = {
        (curve.label, curve.kind): dict(zip(curve.epsilons, curve.mean(), strict=True))
        for curve in shown["curves"](shown["lines"])
    }
    attacked, certified = found["nonexpansive", "attacked"], found["nonexpansive", "certified"]

    def proved(epsilon: float) -> float:
        return max((value for at, value in certified.items() if at >= epsilon - 1e-9), default=0.0)

    assert attacked[0.0] == certified[0.0] > 85
    assert all(proved(epsilon) <= left for epsilon, left in attacked.items())
    assert proved(0.2) > 50
    assert attacked[0.5] > found["unconstrained", "attacked"][0.5]
