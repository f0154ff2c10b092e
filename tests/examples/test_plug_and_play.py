"""The example on Plug-and-Play runs, converges and fills in what is missing."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("PIL")


def test_the_example_fills_in_a_photograph(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", ["plug_and_play.py", "--quick", "--out", str(file)])
    runpy.run_path(str(repository / "examples" / "plug_and_play.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "converges to a fixed point" in printed
    found = re.search(r"PSNR ([\d.]+) dB", printed)
    assert found is not None
    assert float(found.group(1)) > 20
    assert file.stat().st_size > 1000


@pytest.mark.parametrize(("name", "out"), [("plug_and_play", "x.foo"), ("certified_images", "x.jsonl")])
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, out: str
) -> None:
    pytest.importorskip("torchattacks")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", out])
    with pytest.raises(SystemExit):
        runpy.run_path(str(repository / "examples" / f"{name}.py"), run_name="__main__")
    assert "--out must end in .png" in capsys.readouterr().err
