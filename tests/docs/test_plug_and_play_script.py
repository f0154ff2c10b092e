"""The script on Plug-and-Play goes through all its stages, and goes on where it was stopped."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.operators import Stencil

pytest.importorskip("matplotlib")


class Smoothed(nn.Module):
    certified = True

    def __init__(self) -> None:
        super().__init__()
        self.differences = Stencil.gradient((128, 128))

    def averagedness(self) -> float:
        return 0.5

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return x - self.differences.adjoint(self.differences(x).clamp(-sigma, sigma)) / 8


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(repository / "docs" / "experiments"))
    module = importlib.import_module("plug_and_play")
    monkeypatch.setattr(module, "DENOISERS", {"ours": lambda _: (Smoothed(), (0.05,))})
    crop = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(module, "crops", lambda which: [(f"{which}/0", crop), (f"{which}/1", 1 - crop)])
    yield module
    for name in ("plug_and_play", "denoising", "pages", "appending"):
        sys.modules.pop(name, None)


def test_all_stages(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page, picture = tmp_path / "lines.jsonl", tmp_path / "page.md", tmp_path / "picture.png"
    page.write_text("before\n<!-- plug_and_play -->\n<!-- end of plug_and_play -->\nafter\n", encoding="utf-8")
    given = ["--out", str(out), "--page", str(page), "--picture", str(picture)]
    with pytest.raises(SystemExit, match="run `choose` first"):
        script.main(["run", *given])
    script.main(["choose", *given, "--settings", "1", "--choice-steps", "2", "--crops", "1"])
    script.main(["run", *given, "--steps", "5", "--crops", "1"])
    script.main(["run", *given, "--steps", "5"])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["kind"] for line in lines] == ["choose"] * 6 + ["run"] * 12
    assert len({(line["task"], line["crop"]) for line in lines[6:]}) == 12
    for line in lines[6:]:
        assert line["certified"]
        assert line["largest_rise"] <= line["allowed_rise"]
        assert all(residual <= bound for residual, bound in zip(line["residuals"], line["bounds"], strict=True))
    script.main(["table", *given])
    rows = page.read_text(encoding="utf-8").splitlines()
    assert (rows[0], rows[-1]) == ("before", "after")
    assert sum(row.startswith("|") for row in rows) == 2 + 6
    assert "| 0 of 2 | 2 of 2 | 2 of 2 |" in rows[-4]
    script.main(["picture", *given])
    assert picture.stat().st_size > 10_000


def test_the_setting_is_that_of_the_best_line(script: Any) -> None:
    rows = [
        {"kind": "choose", "task": "mri", "denoiser": "ours", "method": "m", "sigma": s, "step": 1.0, "relaxation": 1.0}
        | {"final_psnr": 30 - s}
        for s in (3.0, 1.0, 2.0)
    ]
    assert script.chosen(rows, "mri", "ours").sigma == 1.0


def test_tasks_are_certified(script: Any) -> None:
    for name, task in script.TASKS.items():
        physics = task.build()
        assert physics.certified, name
        assert physics.squared_norm() < 1e4, name
    assert 0.2 < float(script.lines().float().mean()) < 0.4
