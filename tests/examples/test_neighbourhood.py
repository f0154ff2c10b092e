"""The node that is attacked is fooled, and drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("vl_convert")


def test_the_node_is_fooled(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("neighbourhood")
    assert shown["found"].outcome == "fooled"
    assert 0 < shown["found"].n_flips <= 4
    assert all(shown["node"] in flip.edge for flip in shown["found"].flips)
