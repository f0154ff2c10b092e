from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from contractive_gnn.bench import certified, own_models
from contractive_gnn.bench import certify as module
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.results import Result, digest, read_results
from contractive_gnn.certificates import bounds

QUICK = ("--dataset", "csbm", "--set", "training.epochs=6", "--set", "model.num_layers=4")


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["certify", *map(str, arguments)], env={"COLUMNS": "200"})
    return done.exit_code, done.stdout, done.stderr


def read_radii(folder: Path) -> list[dict[str, str]]:
    path = folder / "radii.csv"
    return list(csv.DictReader(path.open(newline="", encoding="utf-8"))) if path.exists() else []


def test_it_writes_results_radii_and_a_picture_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*QUICK, "--flips", "2", "--fraction", "0.25", "--total", "2", "--out", tmp_path)
    code, out, err = invoke(*arguments)
    assert (code, err) == (0, "")
    assert "2 edges per node" in out
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["budget"], line["budget_unit"]) for line in lines] == [
        (1, "edges per node"),
        (2, "edges per node"),
        (0.25, "fraction of each degree"),
        (2, "edges in all"),
    ]
    for line in lines:
        assert line["model"] == "certified"
        assert 0 < line["certified_accuracy"] <= line["clean_accuracy"] <= 100
        assert line["certified_accuracy"] == line["accuracy"]
        assert line["attacked_predictions"] == 0
    assert lines[1]["accuracy"] <= min(lines[0]["accuracy"], lines[3]["accuracy"])
    radii = read_radii(tmp_path)
    assert [int(row["node"]) for row in radii] == list(range(1000))
    assert {row["radius"] for row in radii} <= {"0", "1", "2"}
    assert {row["largest_tried"] for row in radii} == {"2"}
    assert (tmp_path / "certified.png").stat().st_size > 0

    monkeypatch.setattr(certified, "fit_certified", None)  # nothing is trained again
    assert invoke(*arguments)[0] == 0
    assert len(read_results(tmp_path / "results.jsonl")) == 4


def test_its_table_fits_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = CliRunner().invoke(app, ["certify", *QUICK, "--out", str(tmp_path)], env={"COLUMNS": "80"}).stdout
    head, row = (line.split() for line in out.splitlines() if line.split()[:1] in (["data"], ["csbm"]))
    assert head == ["data", "set", "model", "budget", "clean", "certified", "seeds"]
    assert row[:5] == ["csbm", "certified", "1", "edge", "per"]  # whole words, and no plural
    lines = (tmp_path / "results.jsonl").read_text("utf-8")
    more = {"attack": "certificate-additions", "hyperparameters": {"attack": {"feature_flips": 2}}}
    results = [Result.from_line(lines), Result.from_line(json.dumps({**json.loads(lines), **more}))]
    Console(width=100).print(module._table(results))
    printed = capsys.readouterr().out
    assert "features" in printed
    assert "additions" in printed
    assert "2 flips" in printed


def test_it_takes_one_thread_as_a_benchmark_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    fit = certified.fit_certified
    monkeypatch.setattr(
        certified, "fit_certified", lambda *a, **k: (seen.append(torch.get_num_threads()), fit(*a, **k))[1]
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert invoke(*QUICK, "--out", tmp_path)[0] == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert seen == [1]


def test_what_was_certified_in_former_words_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*QUICK, "--out", tmp_path)
    assert invoke(*arguments)[0] == 0
    results, radii = tmp_path / "results.jsonl", tmp_path / "radii.csv"
    (line,) = map(json.loads, results.read_text().splitlines())
    now = {key: value for key, value in line["hyperparameters"].items() if key != "attack"}
    words = {"hidden_channels": "hidden", "num_layers": "num_steps", "activation": "sigma"}
    before = {**now, "model": {words.get(key, key): value for key, value in now["model"].items()}}
    assert before != now
    line["hyperparameters"].update(before)
    results.write_text(json.dumps(line) + "\n")
    whole = radii.read_text()
    radii.write_text(whole.replace(digest(now), digest(before)))
    assert radii.read_text() != whole

    monkeypatch.setattr(certified, "fit_certified", None)  # nothing is trained again
    assert invoke(*arguments)[0] == 0
    monkeypatch.undo()
    assert invoke(*arguments, "--flips", "2")[0] == 0
    assert {row["hyperparameters"] for row in read_radii(tmp_path)} == {digest(now)}
    assert [row["largest_tried"] for row in read_radii(tmp_path)] == ["2"] * 1000


def test_radii_are_those_of_the_largest_budget_of_every_seed_and_setting(tmp_path: Path) -> None:
    fresh, grown = tmp_path / "fresh", tmp_path / "grown"
    assert invoke(*QUICK, "--flips", "2", "--out", fresh)[0] == 0
    for more in (("--flips", "1"), ("--flips", "2"), ("--flips", "1", "--fraction", "0.25")):
        assert invoke(*QUICK, *more, "--out", grown)[0] == 0
        assert len(read_radii(grown)) == 1000
    assert read_radii(grown) == read_radii(fresh)
    assert invoke(*QUICK, "--seeds", "2", "--out", grown)[0] == 0
    assert invoke(*QUICK, "--kind", "additions", "--out", grown)[0] == 0
    radii = read_radii(grown)
    assert radii[:1000] == read_radii(fresh)
    assert [(row["certificate"], row["seed"]) for row in radii[1000::1000]] == [
        ("certificate", "1"),
        ("certificate-additions", "0"),
    ]


def test_what_stops_it_between_results_and_radii_loses_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "_write_radii", stop)
        assert invoke(*QUICK, "--out", tmp_path)[0] == 130
    line = (tmp_path / "results.jsonl").read_text()
    assert read_radii(tmp_path) == []
    assert invoke(*QUICK, "--out", tmp_path)[0] == 0
    assert (tmp_path / "results.jsonl").read_text() == line
    assert len(read_radii(tmp_path)) == 1000


def test_attacks_do_not_break_it_but_break_a_wrong_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*QUICK, "--attack", "--attack-predictions", "60000")
    assert invoke(*arguments, "--out", tmp_path / "right")[0] == 0
    (line,) = (tmp_path / "right" / "results.jsonl").read_text().splitlines()
    result = json.loads(line)
    assert result["broken"] == 0
    assert result["attacked_predictions"] >= 60_000
    assert result["certified_accuracy"] <= result["unchanged_accuracy"] <= result["clean_accuracy"]

    correct = bounds.largest_added
    monkeypatch.setattr(bounds._Compiled, "serves", lambda *given: False)  # the tensor operations
    monkeypatch.setattr(bounds, "largest_added", lambda *given: 0.3 * correct(*given))
    for _ in range(2):  # a resumed run remembers
        code, _, err = invoke(*arguments, "--out", tmp_path / "wrong")
        assert code == 1
        assert "the certificate is wrong" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--dataset", "coral"), "no dataset is called 'coral'"),
        (("--kind", "swaps"), "--kind: expected one of both, additions, deletions, got 'swaps'"),
        (("--flips", "0"), "--flips must be at least 1, got 0"),
        (("--fraction", "nan"), "--fraction must be positive, got nan"),
        (("--total", "0"), "--total must be at least 1, got 0"),
        (
            ("--model", "certifed"),
            "no model or preset for a certificate is called 'certifed'. Did you mean",
        ),
        (("--model", "gcn", "--set", "model.num_steps=null", "--flips", "1"), "no model hyperparameter is called"),
        (
            ("--set", "model.hiden_channels=3"),
            "no model hyperparameter is called 'hiden_channels'. Did you mean 'hidden_channels'?",
        ),
        (("--set", "training.self_training=0.5"), "no training hyperparameter is called 'self_training'. "),
        (("--set", "gcn.model.hidden_channels=3"), "expected model.KEY=VALUE or training.KEY=VALUE"),
        (("--set", "training.epochs=-5"), "epochs must be at least 0, got -5"),
        (("--noise", "0.5"), "--noise: expected two numbers with a comma between, like 0.001,0.6, got '0.5'"),
        (("--noise", "0.5,1.5"), "expected probabilities in [0, 1), got add=0.5, delete=1.5"),
        (("--samples", "0"), "--samples must be at least 1, got 0"),
        (("--labels", "y.npy"), "--labels y.npy: it belongs to a graph of your own; give --data, too"),
        (("--split", "fixed"), "no split is called 'fixed'"),
        (("--split", "inductive"), "--split inductive: what is certified is fitted on the whole graph"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, _, err = invoke(*arguments, "--out", tmp_path)
    assert code == 2
    assert complaint in err


def test_results_of_bench_share_no_folder_with_certificates(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    (tmp_path / "results.jsonl").write_text(make_result().to_line())
    code, _, err = invoke("--out", tmp_path)
    assert code == 2
    assert "holds results of `contractive-gnn bench`; choose another --out" in err


def test_a_result_of_another_command_stays_what_it_is(make_result: Callable[..., Result]) -> None:
    plain = make_result()
    assert module._read_line(plain.to_line()) == plain


GCN = ("--dataset", "csbm", "--set", "training.epochs=10", "--samples", "200")


def test_a_model_without_a_bound_is_smoothed_and_the_method_is_named(tmp_path: Path) -> None:
    code, out, err = invoke(*GCN, "--model", "gcn", "--flips", "2", "--out", tmp_path)
    assert code == 0
    assert "gcn: no bound covers it (" in err
    assert "randomised smoothing" in err
    assert "gcn, 2 edges in all: the noise p+ = 0.001, p- = 0.6 hides" in err
    assert "certified accuracy, by smoothing" in out
    one, two = (json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines())
    assert (one["budget"], one["budget_unit"], one["attack"]) == (1, "edges in all", "certificate-smoothing")
    assert one["method"].startswith("randomised smoothing (p+ = 0.001, p- = 0.6, 200 samples, alpha = 0.01")
    assert 0 < one["certified_accuracy"] <= one["clean_accuracy"]
    assert (two["certified_accuracy"], bool(two["reason"])) == (0, True)
    assert {row["radius"] for row in read_radii(tmp_path)} == {"0", "1"}
    assert invoke(*GCN, "--model", "gcn", "--flips", "2", "--out", tmp_path)[0] == 0
    assert len(read_results(tmp_path / "results.jsonl")) == 2


def test_one_that_trains_itself_is_fitted_on_the_clean_graph(tmp_path: Path) -> None:
    code, _, err = invoke(*GCN, "--model", "ensemble", "--set", 'model.members=[{"name": "gcn"}]', "--out", tmp_path)
    assert code == 0
    assert "it is fitted on the clean graph, since it declares a training of its own" in err


def test_a_diffusion_that_is_no_preset_keeps_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_models, "_own", {})
    (tmp_path / "mine.py").write_text(
        "from contractive_gnn.nn import linf_diffusion\n\n"
        "def net(in_channels, out_channels):\n    return linf_diffusion(in_channels, out_channels, num_layers=4)\n",
        "utf-8",
    )
    code, _, err = invoke(*GCN[:4], "--model", f"{tmp_path / 'mine.py'}:net", "--out", tmp_path / "run")
    assert code == 0
    assert "mine.py:net is fitted as in the benchmark, not for the certificate" in err
    (line,) = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert (json.loads(line)["method"], json.loads(line)["budget_unit"]) == ("interval bounds", "edges per node")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--fraction", "0.1"), "without --fraction: it certifies a number of flips in the whole graph"),
        (("--feature-flips", "1"), "without --feature-flips: its noise is of the edges alone"),
        (("--attack",), "without --attack: it holds with a confidence"),
    ],
)
def test_smoothing_says_what_it_does_not_answer(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, _, err = invoke(*GCN, "--model", "gcn", *arguments, "--out", tmp_path)
    assert code == 2
    assert complaint in err
