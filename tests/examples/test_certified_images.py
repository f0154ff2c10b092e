"""The example of certified images runs on the digits, and its certificates hold where its attacks failed."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

for package in ("torchattacks", "matplotlib"):
    pytest.importorskip(package)


def test_a_certified_classifier_of_digits(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "digits.png"
    monkeypatch.setattr(sys, "argv", ["certified_images.py", "--quick", "--out", str(picture)])
    runpy.run_path(str(repository / "examples" / "certified_images.py"))
    lines = capsys.readouterr().out.splitlines()
    curves = {
        line.partition(":")[0]: [float(number) for number in re.findall(r"(\d+\.\d+) % at", line)] for line in lines[2:]
    }
    attacked, certified = curves["nonexpansive, attacked"], curves["nonexpansive, certified"]
    assert float(lines[0].rpartition(" ")[2]) <= 1.0
    assert lines[1].endswith("inf")
    assert attacked[0] == certified[0] > 90
    assert all(proved <= left for proved, left in zip(certified, attacked, strict=True))
    assert certified[1] > 70
    assert attacked[2] > curves["unconstrained, attacked"][2]
    assert picture.stat().st_size > 10_000


def test_the_example_is_short(repository: Path) -> None:
    assert len((repository / "examples" / "certified_images.py").read_text().splitlines()) < 60
