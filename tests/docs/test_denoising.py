"""The code of the page on denoising runs as it stands, with a small denoiser in the place of the trained one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


def test_the_code_of_the_page_runs(repository: Path) -> None:
    pytest.importorskip("deepinv")
    page = (repository / "docs" / "denoising.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    trained = 'GradientFlowDenoiser.pretrained("grey")'
    assert trained in blocks[0]
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block.replace(trained, "GradientFlowDenoiser(filters=4, scales=(1, 2))"), names)
    assert names["run"].certificate.certified
    assert bool((names["residuals"][:, 0] <= names["bounds"]).all())
    ours = names["method"].run(names["y"], start=names["blur"].A_adjoint(names["y"]), steps=100)
    assert float((ours.image - names["same"]).abs().max()) < 5e-5  # a hundred steps in single precision
