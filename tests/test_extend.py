"""The page on extensions is run as it is printed, in files outside the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contractive_gnn.attacks import AttackResult
from contractive_gnn.bench.cli import app
from contractive_gnn.integrators import SCHEMES
from contractive_gnn.plugins import VARIABLE
from contractive_gnn.registry import temporary

OTHER_PLUGINS = ("two_moons", "tag", "hub_cut", "arctan", "ralston")
PLUGINS = ("channel_diffusion", "mean_coupled", *OTHER_PLUGINS)
OTHERS = ("use", "running_mean", "test_channel_diffusion", "test_running_mean")


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "extend.md").read_text("utf-8")


@pytest.fixture(scope="module")
def files(page: str) -> dict[str, str]:
    """The files that the page lets its reader save."""
    return dict(re.findall(r"Save\s+this\s+as\s+`(\w+\.py)`:\n\n```python\n(.*?)```", page, re.DOTALL))


@pytest.fixture(scope="module")
def folder(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extensions")
    for name, content in files.items():
        (folder / name).write_text(content, "utf-8")
    return folder


def run(*command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a plug-in registers its name once, and for good."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {"PYTHONWARNINGS": "ignore", **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def test_every_block_is_a_file(page: str, files: dict[str, str]) -> None:
    assert set(files) == {f"{name}.py" for name in (*PLUGINS, *OTHERS)}
    assert page.count("```python\n") == len(files)


def test_the_dynamics_has_40_lines(files: dict[str, str]) -> None:
    assert len([line for line in files["channel_diffusion.py"].splitlines() if line.strip()]) <= 40


def test_verify_finds_it_and_its_claims_hold(folder: Path) -> None:
    command = (sys.executable, "-m", "contractive_gnn", "verify", "channel-diffusion", "--tries", "1000", "--jobs", "1")
    done = run(*command, "--plugin", "channel_diffusion.py", "--out", "verdict", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "holds" in done.stdout
    records = [json.loads(line) for line in (folder / "verdict" / "verify.jsonl").read_text("utf-8").splitlines()]
    assert {record["kind"] for record in records} == {"step", "rate", "anchor", "structure", "uniform"}
    assert max(record["ratio"] for record in records if record["kind"] == "step") > 0.95


def test_verify_tries_the_field(folder: Path) -> None:
    command = (sys.executable, "-m", "contractive_gnn", "verify", "mean-coupled", "--tries", "300", "--jobs", "1")
    done = run(*command, "--plugin", "mean_coupled.py", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "holds" in done.stdout


@pytest.mark.parametrize("radius", ["circle_radius=0.79", "monotonicity_radius=0.5"])
def test_a_radius_that_a_scheme_does_not_have_is_refused(files: dict[str, str], radius: str) -> None:
    with temporary():
        exec(files["ralston.py"], {})
        assert "ralston" in SCHEMES
    with temporary(), pytest.raises(ValueError, match="ralston: its table is not contractive in"):
        exec(files["ralston.py"].replace(radius, f"{radius}5"), {})


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
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = run(*command, "test_channel_diffusion.py", "test_running_mean.py", folder=folder)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 20, done.stdout  # ten of them for the dynamics


def test_it_is_a_layer_and_a_model(folder: Path) -> None:
    done = run(sys.executable, "use.py", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "five flipped edges move a score by at most" in done.stdout


def bench(folder: Path, out: str, *options: str) -> list[dict[str, Any]]:
    """The results of one run of the command in two processes."""
    done = run(
        *(sys.executable, "-m", "contractive_gnn", "bench", "--seeds", "1", "--jobs", "2", "--out", out),
        *options,
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / out / "results.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def dynamics_results(folder: Path) -> list[dict[str, Any]]:
    return bench(
        *(folder, "dynamics", "--dataset", "csbm", "--models", "gcn,channel-diffusion"),
        *("--attacks", "clean,whitebox-pgd:3flips", "--set", "whitebox-pgd.attack.epochs=2"),
        *("--set", "channel-diffusion.model.mu=0.5", "--plugin", "channel_diffusion.py", "--set", "training.epochs=5"),
        *("--set", "channel-diffusion.model.hidden_channels=4", "--set", "channel-diffusion.model.num_layers=2"),
    )


@pytest.fixture(scope="module")
def other_results(folder: Path) -> list[dict[str, Any]]:
    return bench(
        *(folder, "others", "--dataset", "two-moons", "--models", "gcn,tag,diffusion"),
        *(option for name in OTHER_PLUGINS for option in ("--plugin", f"{name}.py")),
        *("--set", "diffusion.model.activation=arctan", "--set", "diffusion.model.scheme=ralston"),
        *("--attacks", "clean,hub-cut:0.1", "--set", "training.epochs=20"),
    )


def test_two_processes_measure_the_dynamics(dynamics_results: list[dict[str, Any]]) -> None:
    assert {(result["model"], result["attack"]) for result in dynamics_results} == {
        (model, attack) for model in ("gcn", "channel-diffusion") for attack in ("clean", "whitebox-pgd")
    }
    assert all(len(result["versions"]["channel_diffusion.py"]) == 12 for result in dynamics_results)
    # the digest belongs to the numbers that the plug-in has a part in, and to no others
    assert all(
        ("plugins" in result["hyperparameters"]) == (result["model"] == "channel-diffusion")
        for result in dynamics_results
    )


def test_two_processes_measure_model_dataset_activation_and_scheme(
    other_results: list[dict[str, Any]],
) -> None:
    assert {result["dataset"] for result in other_results} == {"two-moons"}
    assert {result["split"] for result in other_results} == {"random"}
    clean = {result["model"]: result["accuracy"] for result in other_results if result["attack"] == "clean"}
    assert set(clean) == {"gcn", "tag", "diffusion"}
    assert min(clean.values()) > 70  # of two classes: it learned the moons
    plugins = {f"{name}.py" for name in OTHER_PLUGINS}
    # the data of a plug-in is a part of every number here
    assert all(set(result["hyperparameters"]["plugins"]) == plugins for result in other_results)


def test_two_processes_measure_the_attack(folder: Path, other_results: list[dict[str, Any]]) -> None:
    attacked = [result for result in other_results if result["attack"] == "hub-cut"]
    assert len(attacked) == 3
    assert all(result["budget"] == 0.1 and result["threat"] == "poisoning" for result in attacked)
    (graph,) = (folder / "others" / "graphs").glob("*hub-cut*.npz")
    result = AttackResult.load(graph)
    cut = set(map(tuple, result.edge_flips.t().tolist()))
    assert len(cut) == result.n_flips > 0
    assert not cut & set(map(tuple, result.data.edge_index.t().tolist()))  # it cuts, and adds nothing


def test_the_dataset_is_listed(folder: Path) -> None:
    done = run(
        sys.executable, "-m", "contractive_gnn", "datasets", folder=folder, CONTRACTIVE_GNN_PLUGINS="two_moons.py"
    )
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "two-moons" in line)
    assert "400 points" in row


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
