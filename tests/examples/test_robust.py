"""The robust model holds where the GCN does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_robust_holds(run: Callable[[str], dict[str, Any]]) -> None:
    accuracy = run("robust")["accuracy"]
    assert min(accuracy["robust"]) > 85
    assert accuracy["gcn"][-1] < min(accuracy["gcn"][0], accuracy["robust"][-1]) - 10
