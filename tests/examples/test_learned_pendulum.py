"""The example on the pendulum runs, and the network with a Hamiltonian keeps areas."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest


def test_structure_keeps_areas_and_predicts_further(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", ["learned_pendulum.py", "--quick", "--out", str(file)])
    runpy.run_path(str(repository / "examples" / "learned_pendulum.py"), run_name="__main__")
    found = re.findall(
        r"(\w+): relative error (\S+) over 5 s, (\S+) over 50 s; a step changes areas by (\S+),",
        capsys.readouterr().out,
    )
    ours, other = ([float(number) for number in numbers] for _, *numbers in found)
    assert ours[1] < 0.5 * other[1]
    assert ours[2] < 1e-13
    assert other[2] > 1e-3
    assert file.stat().st_size > 10_000
