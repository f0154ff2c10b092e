"""The script writes a line for each fit, goes on where it was stopped, and makes its tables and its picture."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("matplotlib")

FOLDER = Path(__file__).parents[2] / "docs" / "experiments"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("approximation_script", FOLDER / "approximation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("appending", "pages"):
        sys.modules.pop(name, None)


SMALL = ["--depths", "1", "--widths", "8", "--seeds", "1", "--adam-steps", "2", "--lbfgs-steps", "2"]


def test_a_stopped_run_goes_on_and_its_lines_become_tables_and_a_picture(script: ModuleType, tmp_path: Path) -> None:
    out, page, picture = tmp_path / "lines.jsonl", tmp_path / "page.md", tmp_path / "picture.png"
    common = ["--out", str(out), "--page", str(page), "--picture", str(picture)]
    script.main(["measure", *common, *SMALL, "--maps", "swirl", "--networks", "both"])
    first = out.read_text()
    script.main(["measure", *common, *SMALL, "--maps", "swirl", "reflection"])
    assert out.read_text().startswith(first)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 5 + 4  # no sphere half for the reflection
    by_network = {row["network"]: row for row in rows if row["map"] == "swirl"}
    counts = [row["parameters"] for row in by_network.values()]
    assert max(counts) - min(counts) <= 0.1 * max(counts)
    assert by_network["both"]["norm_error"] < 1e-14
    assert by_network["gradient"]["norm_error"] is None
    assert by_network["gradient-invertible"]["contraction_share"] <= 0.9 + 1e-6
    assert by_network["gradient-invertible"]["least_determinant"] > 0
    page.write_text(
        "".join(
            f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in ("depth", "largest", "width", "checks", "norms")
        )
    )
    for stage in ("table", "picture"):
        script.main([stage, *common])
    assert "| swirl | gradient-invertible |" in page.read_text()
    assert "| gradient-invertible | 2 |" in page.read_text()
    assert picture.stat().st_size > 10_000


def test_what_a_norm_preserving_network_leaves_at_least(script: ModuleType) -> None:
    least = script.least_errors()
    assert least["swirl"] < 1e-12
    assert least["lotka-volterra"] > 0.1
