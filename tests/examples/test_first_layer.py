"""The first example runs, and shows what it says."""

import re
import runpy
from pathlib import Path

import pytest


def test_a_model_in_fifteen_lines(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(repository / "examples" / "first_layer.py"))
    accuracy, after, ratio = map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out))
    assert accuracy > 90
    assert after < accuracy
    assert 0 < ratio <= 1
