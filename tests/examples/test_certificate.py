"""What is certified is never more than what attacks leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_truth_lies_between(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("certificate")
    certified, left = shown["certified"], shown["left"]
    assert certified[0] == left[0] > 70
    assert all(low <= high for low, high in zip(certified, left, strict=True))
    assert certified == sorted(certified, reverse=True)
    assert 20 < certified[-1] < left[-1] < left[0]
