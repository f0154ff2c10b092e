"""The page on one's own model and graph is run as it is printed: files, commands and Python."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contractive_gnn.attacks import AttackResult
from contractive_gnn.bench.results import read_results


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "own.md").read_text("utf-8")


@pytest.fixture(scope="module")
def folder(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files that the page lets its reader save."""
    folder = tmp_path_factory.mktemp("own")
    files = re.findall(r"Save\s+this\s+as\s+`(\w+\.py)`[^\n]*:\n\n```python\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in files] == ["mine.py", "make_graph.py"]
    for name, content in files:
        (folder / name).write_text(content, "utf-8")
    done = run(sys.executable, "make_graph.py", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def commands(page: str) -> list[list[str]]:
    """The commands of the program, each in one line."""
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split()[1:] for line in lines if line.startswith("contractive-gnn ")]


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "200", "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def program(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "contractive_gnn", *arguments, folder=folder)


def test_the_commands_run_and_write_what_the_page_says(folder: Path, commands: list[list[str]]) -> None:
    first, attack, replay, certify, certain, explain = commands
    few = ("--set", "training.epochs=20")
    done = program(*first, *few, "--seeds", "1", "--set", "whitebox-pgd.attack.epochs=3", "--jobs", "2", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "had one direction only, and are taken in both" in done.stderr.splitlines()[0]
    assert "worst" in done.stdout
    results = read_results(folder / "runs" / "mine" / "results.jsonl")
    assert {r.model for r in results} == {"gcn", "linf-diffusion", "mine.py:Net"}
    assert {r.attack for r in results} == {"clean", "random", "dice", "metattack-live", "whitebox-pgd"}
    assert len(results) == 3 * 5
    assert (folder / "runs" / "mine" / "report.html").exists()

    done = program(*attack, *few, "--set", "whitebox-pgd.attack.epochs=3", folder=folder)
    assert done.returncode == 0, done.stderr
    assert AttackResult.load(folder / "attacked.npz").n_flips > 0
    done = program(*replay, *few, "--seeds", "1", folder=folder)
    assert done.returncode == 0, done.stderr
    replayed = read_results(folder / "runs" / "replayed" / "results.jsonl")
    assert {(r.attack, r.threat) for r in replayed} == {
        ("clean", "evasion"),
        ("attacked.npz", "evasion"),
        ("attacked.npz", "poisoning"),
    }

    done = program(*certify, *few, "--samples", "200", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "no bound covers it" in done.stderr
    (line,) = (folder / "runs" / "certified" / "results.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["method"].startswith("randomised smoothing")
    done = program(*certain, *few, folder=folder)
    assert done.returncode == 0, done.stderr
    (line,) = (folder / "runs" / "certain" / "results.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["method"] == "interval bounds"
    done = program(*explain, *few, "--set", "prbcd.attack.epochs=3", folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Node 17 (class ")
    assert (folder / "runs" / "explained" / "node-17.html").exists()


def test_the_python_runs_and_its_results_are_reported(folder: Path, page: str) -> None:
    section = page.partition("## In Python")[2].partition("\n## ")[0]
    code = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    (folder / "use.py").write_text(code, "utf-8")
    done = run(sys.executable, "use.py", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "worst" in done.stdout
    assert program("report", "runs/python", folder=folder).returncode == 0
    assert len(read_results(folder / "runs" / "python" / "results.jsonl")) == 6
