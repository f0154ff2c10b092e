"""The denoiser's training: it learns, resumes where it stopped, and saves what the package reads."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from contractive_gnn.datasets.errors import MissingFileError
from contractive_gnn.datasets.images import load_photographs
from contractive_gnn.nn.images import GradientFlowDenoiser

FILE = Path(__file__).resolve().parents[2] / "docs" / "experiments" / "train_denoiser.py"


@pytest.fixture
def script() -> ModuleType:
    try:
        load_photographs("bsds500/train")
    except MissingFileError:
        pytest.skip("the photographs of bsds500/train are not there")
    spec = importlib.util.spec_from_file_location("train_denoiser", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_resumes_and_saves_what_is_read(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "lines.jsonl"
    monkeypatch.setattr(script, "JUDGED", 3)
    small = [
        "--seconds",
        "0.2",
        "--scales",
        "1",
        "--filters",
        "4",
        "--kernel-size",
        "3",
        "--batch",
        "2",
        "--patch",
        "32",
    ]
    monkeypatch.setattr(sys, "argv", ["train", "--scratch", str(tmp_path), "--out", str(out), *small])
    photographs = load_photographs("bsds500/train")
    monkeypatch.setattr(script, "load_photographs", lambda name, grey: photographs[:20])
    script.main()
    script.main()  # the checkpoint says that the time is spent
    first, second = (json.loads(line) for line in out.read_text("utf-8").splitlines())
    assert first["steps"] == second["steps"] > 0
    assert first["val_psnr"] == second["val_psnr"]
    assert first["lipschitz"] == 1.0
    assert first["val_psnr"]["25"] > 20.3  # the noisy ones have 20.17
    saved = torch.load(tmp_path / "grey.pt", weights_only=True)
    denoiser = GradientFlowDenoiser(**saved["arguments"])
    denoiser.load_state_dict(saved["state"])
    with np.load(tmp_path / "grey.npz") as arrays:
        assert json.loads(str(arrays["arguments"])) == {
            **saved["arguments"],
            "scales": list(saved["arguments"]["scales"]),
        }
        kernel = torch.from_numpy(arrays["steps.0.weight"]).float()
    torch.testing.assert_close(kernel, saved["state"]["steps.0.weight"], rtol=1e-3, atol=1e-4)
