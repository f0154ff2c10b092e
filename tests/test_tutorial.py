"""The tutorial is run as it is printed, in files outside the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contractive_gnn.bench.cli import app
from contractive_gnn.plugins import VARIABLE


@pytest.fixture(scope="module")
def blocks(repository: Path) -> list[str]:
    """The Python blocks in the order of the tutorial: the dynamics, its test, its use."""
    return re.findall(r"```python\n(.*?)```", (repository / "docs" / "tutorial.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(blocks: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "channel_diffusion.py").write_text(blocks[0], "utf-8")
    (folder / "test_channel_diffusion.py").write_text(blocks[1], "utf-8")
    (folder / "use.py").write_text(blocks[2], "utf-8")
    return folder


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a plug-in registers its name once, and for good."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment["PYTHONWARNINGS"] = "ignore"
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def test_the_dynamics_has_40_lines(blocks: list[str]) -> None:
    assert len(blocks) == 3
    assert len([line for line in blocks[0].splitlines() if line.strip()]) <= 40


def test_verify_finds_it_and_its_claims_hold(folder: Path) -> None:
    command = (sys.executable, "-m", "contractive_gnn", "verify", "channel-diffusion", "--tries", "1000", "--jobs", "1")
    done = run(*command, "--plugin", "channel_diffusion.py", "--out", "verdict", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "holds" in done.stdout
    records = [json.loads(line) for line in (folder / "verdict" / "verify.jsonl").read_text("utf-8").splitlines()]
    assert {record["kind"] for record in records} == {"step", "rate", "anchor", "structure", "uniform"}
    assert max(record["ratio"] for record in records if record["kind"] == "step") > 0.95


def test_verify_breaks_a_wrong_step(folder: Path) -> None:
    right = (folder / "channel_diffusion.py").read_text("utf-8")
    wrong = right.replace("return 1 / (1 + self.mu)\n", "return 2.5 / (1 + self.mu)\n")
    assert wrong != right
    (folder / "wrong.py").write_text(wrong, "utf-8")
    command = (sys.executable, "-m", "contractive_gnn", "verify", "channel-diffusion", "--jobs", "1")
    done = run(*command, "--plugin", "wrong.py", folder=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
    assert "y − x = " in done.stdout


def test_the_suite_runs_under_pytest(folder: Path) -> None:
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder), folder=folder)
    assert done.returncode == 0, done.stdout
    assert "10 passed" in done.stdout, done.stdout


def test_it_is_a_layer_and_a_model(folder: Path) -> None:
    script = f"import os; os.environ[{VARIABLE!r}] = ''\nimport channel_diffusion\nexec(open('use.py').read())"
    done = run(sys.executable, "-c", script, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "five flipped edges move a score by at most" in done.stdout


def test_bench_measures_it(folder: Path) -> None:
    done = run(
        *(sys.executable, "-m", "contractive_gnn", "bench", "--dataset", "csbm", "--models", "channel-diffusion"),
        *("--attacks", "clean,whitebox-pgd:0.05", "--seeds", "1", "--set", "training.epochs=20"),
        *("--set", "whitebox-pgd.attack.epochs=5", "--set", "channel-diffusion.model.mu=0.5"),
        *("--plugin", "channel_diffusion.py", "--jobs", "1", "--out", "bench"),
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in (folder / "bench" / "results.jsonl").read_text("utf-8").splitlines()]
    assert {result["attack"] for result in results} == {"clean", "whitebox-pgd"}
    assert all(result["model"] == "channel-diffusion" for result in results)
    assert all(len(result["versions"]["channel_diffusion.py"]) == 12 for result in results)


def test_an_entry_point_needs_no_option(folder: Path) -> None:
    """A distribution as pip would leave it: a module, and metadata that name it."""
    site = folder / "site"
    (site / "shared-1.0.dist-info").mkdir(parents=True)
    (site / "shared_flow.py").write_text((folder / "channel_diffusion.py").read_text("utf-8"), "utf-8")
    (site / "shared-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: shared\nVersion: 1.0\n")
    (site / "shared-1.0.dist-info" / "entry_points.txt").write_text("[contractive_gnn.plugins]\nshared = shared_flow\n")
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from contractive_gnn import plugins\nfrom contractive_gnn.dynamics import DYNAMICS\n"
        "print(list(DYNAMICS))\nplugins.load_plugins()\nprint(list(DYNAMICS))"
    )
    done = run(sys.executable, "-c", script, folder=folder)
    before, after = done.stdout.splitlines()
    assert "'channel-diffusion'" in after, done.stderr
    assert "'channel-diffusion'" not in before  # nothing is loaded that nobody asked for


def test_a_plug_in_that_fails_is_named(folder: Path) -> None:
    (folder / "bad.py").write_text("import nothing_of_this_name\n", "utf-8")
    for place, reason in (("bad.py", "nothing_of_this_name"), ("absent.py", "there is no file")):
        done = run(sys.executable, "-m", "contractive_gnn", "verify", "--plugin", place, folder=folder)
        assert done.returncode == 2
        assert place in done.stderr
        assert reason in done.stderr


def test_the_command_is_documented() -> None:
    assert any(
        command.callback is not None and command.callback.__name__ == "verify" for command in app.registered_commands
    )
