"""The photograph is filled in, and the iteration converges as it was proved to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("PIL")


def test_the_photograph_is_filled_in(run: Callable[[str], dict[str, Any]]) -> None:
    shown = run("plug_and_play")
    assert shown["run"].certificate.certified
    assert shown["psnr"] > 20
    assert bool((shown["run"].residuals <= shown["run"].bounds()).all())
