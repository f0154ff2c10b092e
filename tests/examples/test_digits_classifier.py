"""The certificates of the digits hold where their attacks failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torchattacks")


def test_a_certified_classifier(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("digits_classifier")
    found = {(curve.label, curve.kind): curve.mean() for curve in shown["curves"](shown["lines"])}
    attacked, certified = found["nonexpansive", "attacked"], found["nonexpansive", "certified"]
    assert attacked[0] == certified[0] > 85
    assert all(proved <= left for proved, left in zip(certified, attacked, strict=True))
    assert certified[1] > 50
    assert attacked[2] > found["unconstrained", "attacked"][2]
