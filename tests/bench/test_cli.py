from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import contractive_gnn
from contractive_gnn import datasets, training
from contractive_gnn.attacks import AttackResult
from contractive_gnn.bench import cli
from contractive_gnn.bench.cli import EMBEDDED_ATTACKS, MODELS, PUBLISHED_ATTACKS, app
from contractive_gnn.bench.results import Result, ResultsFile, read_results
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.nn import MODELS as REGISTERED
from contractive_gnn.nn import model_names

QUICK = ("--dataset", "csbm", "--models", "gcn", "--seeds", "1", "--jobs", "1", "--set", "training.epochs=3")


class Outcome:
    def __init__(self, *arguments: str | Path) -> None:
        # a narrow terminal would break the lines that the tests look for
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr


def error_of(*arguments: str | Path) -> str:
    """The one line that a user's mistake is answered with."""
    outcome = Outcome(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line.removeprefix("error: ")


def test_help_names_every_command_and_does_not_wait_for_torch() -> None:
    code = "import sys; from contractive_gnn.bench.cli import app; app(['--help'], standalone_mode=False); "
    code += "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("bench", "tune", "attack", "certify", "verify", "speed", "report", "datasets", "pretrain"):
        assert command in done.stdout


def test_a_log_says_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds, said in ((60.0, ""), (0.0, "trying: 2 of 5 after 0 min\ntrying: 3 of 5 after 0 min\n")):
        monkeypatch.setattr(cli, "SECONDS_BETWEEN_LINES", seconds)
        with cli._bar("trying", total=5) as step:
            for steps in (2, 1, 2):  # after the last one comes the result
                step(steps)
        assert capsys.readouterr().err == said


def test_the_grammar_in_the_help_is_whole() -> None:
    for command in ("bench", "attack"):
        shown = "".join(Outcome(command, "--help").out.replace("│", "").split())
        assert "NAME[:BUDGET][@evasion|@poisoning|@symbiotic]." in shown


def test_version() -> None:
    assert Outcome("--version").out.strip() == contractive_gnn.__version__


def test_the_defaults_name_what_exists() -> None:
    assert set(MODELS.split(",")) <= set(REGISTERED)
    assert len(parse_attacks(EMBEDDED_ATTACKS, dataset="digits")) == EMBEDDED_ATTACKS.count(",") + 1
    assert {spec.source for spec in parse_attacks(PUBLISHED_ATTACKS, dataset="cora")} == {"generated", "published"}


def test_bench_writes_results_table_pictures_and_page(tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = Outcome("bench", *QUICK, "--attacks", "clean,random:0.5", "--out", out)
    assert (outcome.code, outcome.err) == (0, "")  # not a terminal: no bar
    assert "csbm (split random, seed 0)" in outcome.out
    files = {path.name for path in out.iterdir()}
    assert {
        "results.jsonl",
        "commands.jsonl",
        "graphs",
        "table.md",
        "table.csv",
        "report.html",
        "overview.png",
    } <= files
    command = json.loads((out / "commands.jsonl").read_text())["command"]
    assert command.startswith("contractive-gnn bench --dataset csbm --models gcn --attacks clean,random:0.5@poisoning ")
    assert command in (out / "report.html").read_text(encoding="utf-8")

    again = Outcome(*command.removeprefix("contractive-gnn ").split())
    assert again.code == 0
    assert again.err == f"2 of 2 numbers are in {out} already.\n"
    assert len(read_results(out / "results.jsonl")) == 2


def test_several_splits_are_one_table_and_go_on(tmp_path: Path) -> None:
    arguments = ("bench", *QUICK, "--attacks", "clean,random:0.5", "--out", tmp_path)
    Outcome(*arguments, "--split", "random", "--split-seed", "1")
    outcome = Outcome(*arguments, "--splits", "3")
    assert (outcome.code, outcome.err) == (0, f"2 of 6 numbers are in {tmp_path} already.\n")
    assert "csbm (3 random splits)" in outcome.out
    assert "over 3 splits, one seed each" in " ".join(outcome.out.split())
    results = read_results(tmp_path / "results.jsonl")
    assert sorted((r.split_seed, r.attack) for r in results) == [(k, a) for k in range(3) for a in ("clean", "random")]
    table = (tmp_path / "table.md").read_text()
    assert table.count("<details>") == table.count("</details>") == 3
    assert "<summary>csbm (split random, seed 2)</summary>" in table
    command = json.loads((tmp_path / "commands.jsonl").read_text().splitlines()[-1])["command"]
    assert "--split random --splits 3" in command
    again = Outcome(*command.removeprefix("contractive-gnn ").split())
    assert again.err == f"6 of 6 numbers are in {tmp_path} already.\n"


def test_a_former_name_is_told_once(tmp_path: Path) -> None:
    """Python shows no DeprecationWarning of a library, and a command has no other way to say it."""
    words = ("--set", "linf-diffusion.model.num_steps=2", "--set", "training.epochs=1")
    outcome = Outcome(
        "bench", "--dataset", "csbm", "--models", "robust-hedged,linf-diffusion", "--seeds", "1", "--jobs", "1",
        "--attacks", "clean", *words, "--out", tmp_path,
    )  # fmt: skip
    assert outcome.code == 0
    assert outcome.err.splitlines() == [
        "note: the model 'robust-hedged' is called 'robust-mixture' now; write 'robust-mixture'",
        "note: linf-diffusion.model.num_steps is called linf-diffusion.model.num_layers now; the old word goes with "
        "the next release",
    ]


def test_a_failing_cell_gives_exit_code_1_and_a_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = training.fit

    def unlucky(model: torch.nn.Module, data: Any, **options: Any) -> Any:
        if data.edge_index.shape[1] > 11_000:  # the graph with random edges
            raise FloatingPointError("the training loss is nan")
        return fit(model, data, **options)

    monkeypatch.setattr(training, "fit", unlucky)
    outcome = Outcome("bench", *QUICK, "--attacks", "clean,random:0.5", "--out", tmp_path)
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "1 number(s) are missing:",
        "  gcn, seed 0, random:0.5@poisoning: FloatingPointError: the training loss is nan",
        f"Tracebacks are in {tmp_path / 'errors.log'}; the same command tries the missing ones again.",
    ]
    assert "clean" in outcome.out


def test_ctrl_c_says_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, calls = training.fit, []

    def stop_at_the_second(*arguments: Any, **options: Any) -> Any:
        calls.append(options["seed"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(training, "fit", stop_at_the_second)
    outcome = Outcome("bench", *QUICK, "--attacks", "clean,random:0.5", "--out", tmp_path)
    assert outcome.code == 130
    assert f"Stopped. 1 numbers are kept in {tmp_path}. To resume:\ncontractive-gnn bench --dataset csbm" in outcome.err
    assert len(read_results(tmp_path / "results.jsonl")) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("--models", "gcn,gnn"),
            f"no model is called 'gnn'. Did you mean 'csgnn'? There are: {', '.join(sorted(model_names()))}",
        ),
        (("--models", ""), "no model given; there are: "),
        (("--dataset", "coral"), "no dataset is called 'coral'. Did you mean 'cora'? There are: citeseer, cora, "),
        (
            ("--attacks", "random:1"),
            "attack 'random:1': '1' is no budget of it; expected a fraction with a decimal point",
        ),
        (("--attacks", "nettack-features:0.1"), "expected a whole number of flips per target, like nettack-features:5"),
        (("--attacks", "nettak:1"), "no attack is called 'nettak'. Did you mean 'nettack'?"),
        (("--set", "epochs=3"), "--set 'epochs=3': expected [MODEL.]training.KEY=VALUE"),
        (
            ("--set", "training.epoch=3"),
            "model 'gcn': no training hyperparameter is called 'epoch'. Did you mean 'epochs'? There are: epochs,",
        ),
        (
            ("--set", "gcn.model.widht=3"),
            "no model hyperparameter is called 'widht'. There are: dropout, hidden_channels",
        ),
        (
            ("--models", "robust,diffusion", "--set", "robust.model.hopps=3"),
            "model 'robust': no model hyperparameter is called 'hopps'. Did you mean 'hops'?",
        ),
        (
            ("--models", "robust,diffusion", "--set", "diffusion.model.tresholt=3"),
            "model 'diffusion': no model hyperparameter is called 'tresholt'. Did you mean 'threshold'?",
        ),
        (("--set", "training.epochs=-5"), "model 'gcn': epochs must be at least 0, got -5"),
        (("--set", "training.epochs=many"), "model 'gcn': epochs must be a whole number, got 'many' (str)"),
        (("--set", "training.lr=1e999"), "--set 'training.lr=1e999': expected a finite number, got 1e999"),
        (("--set", "training.lr=-0.1"), "model 'gcn': lr must be at least 0, got -0.1"),
        (("--set", "training.patience=None"), "values are read as JSON; write null for None"),
        (("--set", "gcn.model.hidden_channels=0"), "model 'gcn': hidden_channels must be at least 1, got 0"),
        (("--set", "gcn.model.dropout=true"), "model 'gcn': dropout must be a number, got True (bool)"),
        (("--set", "clean.attack.edit=add"), "'clean' is not made here by an attack that has hyperparameters"),
        (("--attacks", "random:0.1", "--set", "random.attack.edit=ad"), "edit is one of 'add', 'remove', 'flip'"),
        (("--attacks", "rnd:3", "--set", "rnd.training.epochs=3"), "'rnd' is an attack; write rnd.attack.epochs"),
        (("--set", "gcn.attack.hidden_channels=3"), "'gcn' is a model; write gcn.model.hidden_channels"),
        (("--attacks", "nettack:1", "--set", "nettack.attack.cutof=3"), "attack 'nettack' takes no cutof; it takes: "),
        (("--attacks", "nettack:1", "--set", "nettack.attack.cutoff=-1"), "cutoff must be positive, got -1"),
        (("--models", "gcn,mlp,gcn"), "the model 'gcn' is given twice; give each once"),
        (("--models", "MLP"), "no model is called 'MLP'. Did you mean 'mlp'?"),
        (("--attacks", ""), "expected attacks like clean,metattack:0.25,nettack:5, got ''"),
        (("--seeds", "0"), "--seeds: expected at least 1, got 0"),
        (("--jobs", "-1"), "--jobs: expected at least 1, got -1"),
        (("--split-seed", "-1"), "split_seed must be at least 0, got -1"),
        (("--split", "inductive", "--attacks", "random:0.1"), "nobody poisons that; write random:0.1@evasion"),
        (("--split", "inductive", "--dataset", "cora", "--attacks", "nettack:1"), "and this is 'inductive'"),
        (("--splits", "0"), "--splits: expected at least 1, got 0"),
        (("--splits", "2", "--split-seed", "1"), "--splits 2 and --split-seed 1: several splits, or one"),
        (("--splits", "2", "--split", "prognn"), "2 splits: 'prognn' is one published split; take the split random"),
        (
            ("--splits", "2", "--dataset", "cora", "--attacks", "metattack:0.05"),
            "attack metattack:0.05@poisoning: its published graphs belong to one split, and 2 splits are asked for",
        ),
        (("--plugin", ""), "expected a Python file or the name of a module, without ':', got ''"),
        (("--anchors", "nowhere.csv"), "cannot read the published numbers in nowhere.csv"),
        (("--attack-seed", "99999999999"), "attack_seed must be below 4294967296, got 99999999999"),
        (("--plugin", "nowhere.py"), "nowhere.py; expected a Python file, or the name of a module"),
        (
            ("--out", __file__),
            "test_cli.py cannot be made a folder (File exists); choose another path (--out)",
        ),
        (("--split", "fixed"), "no split is called 'fixed'. There are: inductive, prognn, random"),
        (("--targets", "0", "--attacks", "rnd:3"), "targets: expected at least 1, got 0"),
        (("--targets", "degrees:8", "--attacks", "rnd:3"), "no rule is called 'degrees'"),
        (("--root", "nowhere", "--dataset", "cora"), "root is 'nowhere', which is not a folder"),
        (("--device", "gpu"), "--device gpu: Expected one of cpu, cuda"),
        (("--executor", "slurm"), "--executor slurm: expected processes or ray"),
        (("--address", "auto"), "--address auto: it belongs to --executor ray"),
        (("--executor", "ray", "--device", "cuda"), "--executor ray measures on CPUs"),
        (("--first-seed", "-1"), "--first-seed must be at least 0, got -1"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in error_of("bench", *QUICK, "--attacks", "clean", "--out", tmp_path, *arguments)


def test_measurements_and_certificates_share_no_folder(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    certificate = make_result(attack="certificate", budget=1, budget_unit="edges per node")
    (tmp_path / "results.jsonl").write_text(certificate.to_line())
    assert "results.jsonl holds certificates of `contractive-gnn certify`; choose another --out" in error_of(
        "bench", *QUICK, "--attacks", "clean", "--out", tmp_path
    )
    (tmp_path / "results.jsonl").write_text(certificate.to_line() + make_result().to_line())
    assert "holds certificates and results of attacks, which share no table" in error_of("report", tmp_path)


def test_a_damaged_graph_is_told_and_made_anew(tmp_path: Path) -> None:
    arguments = ("bench", *QUICK, "--attacks", "random:0.1", "--out", tmp_path)
    assert Outcome(*arguments).code == 0
    (graph,) = (tmp_path / "graphs").iterdir()
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "results.jsonl").unlink()
    outcome = Outcome(*arguments)
    assert outcome.code == 0
    assert f"Made anew: {graph} is not a graph saved by AttackResult.save" in outcome.err
    assert AttackResult.load(graph).n_flips > 0


def test_debug_shows_where(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", *QUICK, "--out", str(tmp_path), "--attacks", "random:1", "--debug"])
    assert type(result.exception).__name__ == "SpecError"


def test_two_benchmarks_cannot_share_a_folder(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "results.jsonl"):
        assert "another run is writing" in error_of("bench", *QUICK, "--attacks", "clean", "--out", tmp_path)


class TestWithoutTheExtra:
    @pytest.fixture(autouse=True)
    def absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        version = metadata.version

        def without_deeprobust(package: str) -> str:
            if package == "deeprobust":
                raise metadata.PackageNotFoundError(package)
            return version(package)

        monkeypatch.setattr(metadata, "version", without_deeprobust)

    def test_an_attack_that_needs_it_is_answered_with_the_command(self, tmp_path: Path) -> None:
        line = error_of("bench", *QUICK, "--attacks", "clean,dice:0.1,nettack-deeprobust:1", "--out", tmp_path)
        assert line == "dice, nettack-deeprobust: deeprobust is not installed; pip install 'contractive-gnn[attacks]'"

    def test_the_defaults_go_on_without_it_and_say_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("contractive_gnn.bench.cli.EMBEDDED_ATTACKS", "clean,dice:0.1,random:0.1")
        outcome = Outcome("bench", *QUICK, "--out", tmp_path)
        assert outcome.code == 0
        told = "Left out, because deeprobust is not installed: dice. To have them: "
        told += "pip install 'contractive-gnn[attacks]'\n"
        assert outcome.err == told
        assert {result.attack for result in read_results(tmp_path / "results.jsonl")} == {"clean", "random"}


def test_attack_saves_one_graph(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "noisy.npz"
    outcome = Outcome("attack", "--dataset", "csbm", "--attack", "random:10flips", "--seed", "3", "--out", path)
    assert outcome.code == 0
    assert outcome.out.startswith("random:10flips@poisoning: 10 flips in ")
    assert AttackResult.load(path).n_flips == 10


def test_attack_with_a_model_tells_its_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "attacked.npz"
    outcome = Outcome(
        "attack", "--dataset", "csbm", "--attack", "rnd:3", "--model", "gcn", "--targets", "4", "--out", path,
        "--set", "training.epochs=3",
    )  # fmt: skip
    assert outcome.code == 0
    assert "gcn, trained on the clean graph and frozen, on the targets: " in outcome.out
    assert AttackResult.load(path).data.targets.numel() == 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--attack", "random:0.1", "--out", "noisy.pt"), "expected a file name that ends in .npz, got 'noisy.pt'"),
        (("--attack", "clean", "--out", "a.npz"), "expected one attack, like pgd:0.05 or nettack:3, got clean"),
        (
            ("--attack", "random:0.1", "--out", "a.npz", "--model", "gnn"),
            "no model is called 'gnn'. Did you mean 'csgnn'? There are: ",
        ),
        (("--attack", "random:0.1", "--out", "a.npz", "--device", "gpu"), "--device gpu: Expected one of cpu, cuda"),
    ],
)
def test_mistakes_in_attack_are_answered_in_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in error_of("attack", "--dataset", "csbm", *arguments)


def test_report_of_a_folder(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    assert "run `contractive-gnn bench --out" in error_of("report", tmp_path)
    with ResultsFile(tmp_path / "results.jsonl") as file:
        file.append(make_result(accuracy=47.5))
    outcome = Outcome("report", tmp_path)
    assert outcome.code == 0
    assert "47.5" in outcome.out
    assert (tmp_path / "report.html").exists()
    assert "cannot read the published numbers" in error_of("report", tmp_path, "--anchors", tmp_path / "none.csv")


def test_datasets_lists_what_there_is() -> None:
    outcome = Outcome("datasets")
    assert outcome.code == 0
    for name in datasets.DATASETS:
        assert name in outcome.out


def test_datasets_lists_those_of_a_plugin(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from contractive_gnn import datasets\n"
        "@datasets.register('my-own-graph')\n"
        "def graph(*, split='random', split_seed=0, root=None, download=True):\n"
        '    """A graph of mine."""\n'
        "    return datasets.contextual_sbm(120, seed=split_seed)\n"
    )
    code = "import sys; from contractive_gnn.bench.cli import app; app(sys.argv[1:])"
    command = [sys.executable, "-W", "ignore", "-c", code, "datasets", "--plugin", str(plugin)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    assert "my-own-graph" in done.stdout
