"""A file is read, and four edges do harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("networkx")


def test_a_file_becomes_a_graph(run: Callable[[str], dict[str, Any]]) -> None:
    with pytest.warns(UserWarning, match="2 classes were numbered"):
        shown = run("own_graph")
    assert shown["data"].num_nodes == 34
    assert shown["attacked"].n_flips == 4
    clean, attacked = (int(wrong.sum()) for wrong in shown["wrong"].values())
    assert clean <= 3
    assert attacked >= clean + 3
