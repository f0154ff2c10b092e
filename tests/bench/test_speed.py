"""The speed suites on small problems: what they write, not how long it takes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from contractive_gnn.bench import speed
from contractive_gnn.bench.cli import app


def test_a_race_keeps_the_shortest_time_and_runs_by_turns() -> None:
    calls: list[str] = []
    first, second = speed.race(lambda: calls.append("a"), lambda: calls.append("b"), repeats=2)
    assert calls == ["a", "b"] * 3
    assert first.seconds > 0
    assert second.seconds > 0


def test_the_peak_of_a_run_is_seen() -> None:
    cost = speed.measure(lambda: torch.ones(25_000_000).sum())
    if cost.megabytes is None:
        pytest.skip("this system does not tell a process its peak memory")
    assert 90 < cost.megabytes < 200


def test_the_layer_suite_writes_both_sides(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    figures = list(speed.layers(nodes=200, edges=1000, channels=8, repeats=1))
    assert len(figures) == 8
    assert "10 fused steps of robust's flow, group MCP" in figures[4].name
    assert figures[6].peer == "10 times GCNConv, CSR, normalised once"
    for figure in figures:
        assert figure.peer_s is not None
        assert figure.ratio == pytest.approx(figure.peer_s / figure.ours_s)
    (path,) = speed.write(figures, tmp_path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["name"] for row in rows] == [figure.name for figure in figures]
    assert {"ours_s", "peer", "peer_s", "ratio", "ours_mb", "peer_mb", "machine", "versions"} <= rows[0].keys()


def test_a_suite_replaces_its_own_lines_and_leaves_the_others(tmp_path: Path) -> None:
    def figure(suite: str, seconds: float) -> speed.Figure:
        return speed.Figure(suite=suite, name="a", ours_s=seconds, threads=1, machine="", versions={"torch": None})

    for figures in ([figure("layers", 1.0)], [figure("nettack", 2.0)], [figure("layers", 3.0), figure("layers", 4.0)]):
        (path,) = speed.write(figures, tmp_path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["suite"], line["ours_s"]) for line in lines] == [("nettack", 2.0), ("layers", 3.0), ("layers", 4.0)]

    for strange in ("no JSON", '{"other": "layers"}', "[]", '{"suite": 1}'):
        path.write_text(strange, encoding="utf-8")
        with pytest.raises(ValueError, match="give another folder"):
            speed.write([figure("layers", 1.0)], tmp_path)
        assert path.read_text(encoding="utf-8") == strange


def test_the_plot_needs_two_sizes(tmp_path: Path) -> None:
    def figure(nodes: int) -> speed.Figure:
        cost, peer = speed.Cost(nodes / 1000, None), speed.Cost(nodes / 500, None)
        name = f"one training step of robust, {nodes:,} nodes, average degree 10"
        return speed.comparison("training", name, cost, "APPNP", peer)

    assert [path.name for path in speed.write([figure(1000)], tmp_path)] == ["speed.jsonl"]
    assert [path.name for path in speed.write([figure(1000), figure(2000)], tmp_path)] == ["speed.jsonl", "growth.png"]


def test_the_training_suite_runs_what_the_preset_says(real_data: None) -> None:
    figures = list(speed.training(epochs=2, slow=False, sizes=(200, 400)))
    assert [figure.name.split(",")[0] for figure in figures] == [
        "robust on Cora",
        *["one training step of robust"] * 2,
        "growth from 200 to 400 nodes",
    ]
    assert "6 epochs" in figures[0].name  # with edges, without, and the self-training
    assert figures[0].ratio is not None
    assert "A(0) once before" in figures[1].note
    assert figures[1].peer_s is not None
    assert figures[3].note.count("time grows with exponent") == 2


def test_a_bag_of_words_has_different_words() -> None:
    x = speed.bag_of_words(50, words=40, each=8)
    torch.testing.assert_close(x.to_dense().sum(dim=1), torch.full((50,), 8.0))
    assert bool((x.to_dense() <= 1).all())
    assert bool((x.col_indices().view(50, 8).diff() > 0).all())


def test_the_exponent_of_a_power_law() -> None:
    assert math.isclose(speed.exponent([(n, 3.0 * n**1.5) for n in (10, 100, 1000)]), 1.5)


def test_the_graphs_are_undirected_and_sorted() -> None:
    edges = speed.random_graph(50, 200)
    code = edges[1] * 50 + edges[0]
    assert bool((code.diff() >= 0).all())
    assert torch.equal((edges[0] * 50 + edges[1]).sort().values, code)
    data = speed.citation_graph(300)
    assert int(data.train_mask.sum() + data.val_mask.sum() + data.test_mask.sum()) == 300
    assert not bool((data.edge_index[0] == data.edge_index[1]).any())


def test_a_whole_attack_on_a_large_graph_is_one_line() -> None:
    figure = speed._large_metattack(speed.citation_graph(300), 0.01)
    assert figure.name == "Metattack, 300 nodes, 673 edges, 1% of the edges"
    assert figure.note == "6 flips"
    assert figure.ours_s > 0


def test_an_unknown_suite_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["speed", "--suite", "light", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no suite is called 'light'" in result.stderr
