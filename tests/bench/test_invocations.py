from __future__ import annotations

from pathlib import Path

from contractive_gnn.bench.invocations import Invocation, read_invocations


def test_invocations_are_read_back_each_once_and_in_order(tmp_path: Path) -> None:
    first, second = Invocation("bench --out é", ("gcn", "mlp")), Invocation("bench --seeds 3", ("gcn",))
    for invocation in (first, second, first):
        invocation.append_to(tmp_path)
    assert read_invocations(tmp_path) == (first, second)


def test_a_folder_without_a_list_has_no_invocations(tmp_path: Path) -> None:
    assert read_invocations(tmp_path) == ()


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    kept = Invocation("bench", ("gcn",))
    (tmp_path / "commands.jsonl").write_text('{"command": "ben\n[]\n{"command": "x"}\n')
    kept.append_to(tmp_path)
    assert read_invocations(tmp_path) == (kept,)
    with (tmp_path / "commands.jsonl").open("a") as file:
        file.write('{"command": "bench --seeds 3", "mod')  # where a run was killed
    more = Invocation("bench --seeds 4", ("gcn",))
    more.append_to(tmp_path)
    assert read_invocations(tmp_path) == (kept, more)


def test_models_have_their_names_of_today(tmp_path: Path) -> None:
    """The columns of a report are in the order of these names, and its results have the names of today."""
    Invocation("bench", ("gcn", "robust-hedged", "gat")).append_to(tmp_path)
    assert read_invocations(tmp_path)[0].models == ("gcn", "robust-mixture", "gat")
