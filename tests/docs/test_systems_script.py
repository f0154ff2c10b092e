"""The script on learned systems goes through its stages, and its networks are what the tables say of them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contractive_gnn.datasets.systems import SYSTEMS
from contractive_gnn.seeding import seeded
from contractive_gnn.testing.steps import sample_jacobians, symplectic_defect, volume_defect

pytest.importorskip("matplotlib")
NAMES = ("pendulum", "henon-heiles", "log-lotka-volterra", "sir", "rigid-body")


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(repository / "docs" / "experiments"))
    module = importlib.import_module("systems")
    monkeypatch.setattr(module, "TEST_TRAJECTORIES", 2)
    monkeypatch.setattr(module, "STEPS", 20)
    small = {name: module.Setting(one.delta, 5, 3, one.weights) for name, one in module.SETTINGS.items()}
    monkeypatch.setattr(module, "SETTINGS", small)
    yield module
    for name in ("systems", "system_networks", "pages", "appending"):
        sys.modules.pop(name, None)


def test_all_stages(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page, picture = tmp_path / "lines.jsonl", tmp_path / "page.md", tmp_path / "picture.png"
    marks = "\n".join(f"<!-- {name} -->\n<!-- end of {name} -->" for name in ("errors", "noise", "kept"))
    page.write_text(f"before\n{marks}\nafter\n", encoding="utf-8")
    given = ["--out", str(out), "--page", str(page), "--picture", str(picture), "--scratch", str(tmp_path)]
    train = ["train", *given, "--iterations", "1", "--seeds", "0"]
    script.main([*train, "--systems", "pendulum", "--networks", "coupling", "resnet"])
    script.main([*train, "--systems", "sir", "rigid-body", "--networks", "mass", "sphere", "resnet"])
    script.main([*train, "--systems", "sir", "--networks", "mass", "--noise", "0.01"])
    script.main([*train, "--systems", "sir", "--networks", "mass"])  # done already
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(line["system"], line["network"]) for line in lines] == [
        ("pendulum", "coupling"),
        ("pendulum", "resnet"),
        ("sir", "mass"),
        ("sir", "resnet"),
        ("rigid-body", "sphere"),
        ("rigid-body", "resnet"),
        ("sir", "mass"),
    ]
    for line in lines:
        for what in script.KEPT.get(line["network"], ()):
            assert line["violations"][what] < 1e-13
        assert line["error"]["10"]["mean"] > 0
    assert lines[1]["violations"]["volume"] > 1e-3
    script.main(["table", *given])
    script.main(["picture", *given])
    text = page.read_text(encoding="utf-8")
    assert "| resnet |" in text
    assert "Noise of 0.01" in text
    assert "(kept)" in text
    assert picture.stat().st_size > 5000
    assert "pendulum coupling" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_of_equal_size_and_keep_what_they_are_said_to(script: Any, name: str) -> None:
    system, setting = SYSTEMS[name](), script.SETTINGS[name]
    x = torch.from_numpy(system.draw(np.random.default_rng(0), 4))
    for network, build in script.networks(system).items():
        if network.startswith(("strupnet", "sympnets")) or (network == "neural-ode" and _absent("torchdiffeq")):
            continue
        width = script.of_equal_size(build, system.dim, setting.delta, setting.weights)
        with seeded(0):
            model = build(system.dim, setting.delta, width)
        assert script.parameters(model) <= 1.1 * setting.weights
        if "polynomial" not in network:
            assert script.parameters(model) >= 0.9 * setting.weights
        kept = script.KEPT.get(network, ())
        after, matrices = model(x).detach(), sample_jacobians(model, x)
        changes = {
            "mass": (after.sum(dim=1) - x.sum(dim=1)).abs(),
            "norm": (after.norm(dim=1) - x.norm(dim=1)).abs(),
            "volume": volume_defect(matrices),
            "symplectic": symplectic_defect(matrices) if system.dim % 2 == 0 else torch.full((1,), math.nan),
        }
        found = {what: float(change.max()) for what, change in changes.items()}
        assert all(found[what] < 1e-12 for what in kept), (network, found)
        if not kept:
            assert min(found[what] for what in found if not math.isnan(found[what])) > 1e-4, (network, found)


def _absent(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def test_the_code_of_the_page_runs(repository: Path) -> None:
    page = (repository / "docs" / "systems.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("```python\n")
    code, _, _ = rest.partition("```")
    for long, short in (
        ("count=50", "count=5"),
        ("num_steps=250", "num_steps=20"),
        ("train)\npolish", "train, TrajectoryFitOptions(epochs=1, steps=50), progress=False)\npolish"),
        ("polish_trajectories(model, train)", "polish_trajectories(model, train, iterations=10)"),
    ):
        assert long in code
        code = code.replace(long, short)
    names: dict[str, Any] = {}
    exec("from contractive_gnn.training.systems import TrajectoryFitOptions\n" + code, names)
    assert names["prediction_error"](names["model"], names["test"]).mean < 0.5
