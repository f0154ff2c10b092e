from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from contractive_gnn.bench.results import Result
from contractive_gnn.bench.summary import AnchorError, Section, read_anchors, summarise

Make = Callable[..., Result]


def only(results: Sequence[Result]) -> Section:
    (section,) = summarise(results)
    return section


def runs(make: Make, accuracies: Sequence[float], **changes: Any) -> list[Result]:
    return [make(seed=seed, accuracy=accuracy, **changes) for seed, accuracy in enumerate(accuracies)]


def test_mean_and_sample_standard_deviation_over_seeds(make_result: Make) -> None:
    section = only(runs(make_result, [80.0, 82.0, 87.0]))
    (score,) = section.scores.values()
    assert (score.mean, score.n) == (83.0, 3)
    assert score.std == pytest.approx(13**0.5)  # (9 + 1 + 16) / 2
    assert section.seeds_text == "3 seeds"


def test_one_seed_has_no_standard_deviation(make_result: Make) -> None:
    (score,) = only(runs(make_result, [80.0])).scores.values()
    assert score.std is None


def test_the_worst_attack_is_by_model_and_by_nodes(make_result: Make) -> None:
    targets: dict[str, Any] = {"evaluated_on": "targets", "n_evaluated": 83, "budget_unit": "edges per target"}
    section = only(
        [
            *runs(make_result, [30.0], attack="clean"),  # clean is no attack
            *runs(make_result, [50.0, 54.0]),
            *runs(make_result, [60.0, 40.0], budget=0.2),
            *runs(make_result, [10.0], attack="nettack", budget=5, **targets),
            *runs(make_result, [70.0], model="gat", budget=0.2),
        ]
    )
    worst = section.worst("gcn", "test")
    assert worst is not None
    assert worst.budget == 0.2
    assert section.complete("gcn", "test")
    assert not section.complete("gat", "test")
    assert section.worst("gat", "targets") is None
    on_targets = section.worst("gcn", "targets")
    assert on_targets is not None
    assert on_targets.attack == "nettack"


def test_rows_are_clean_first_then_by_attack_and_budget_and_targets_last(make_result: Make) -> None:
    targets: dict[str, Any] = {"evaluated_on": "targets", "n_evaluated": 83, "budget_unit": "edges per target"}
    section = only(
        [
            make_result(attack="nettack", budget=5, **targets),
            make_result(budget=0.25),
            make_result(attack="pgd", budget=0.1),
            make_result(budget=0.05),
            make_result(attack="clean"),
        ]
    )
    assert [c.short for c in section.conditions] == [
        "clean",
        "metattack 5 %",
        "metattack 25 %",
        "pgd 10 %",
        "nettack 5",
    ]


def test_hyperparameters_are_never_mixed_and_the_difference_is_told(make_result: Make) -> None:
    small = {"model": {"hidden_channels": 16}, "training": {"epochs": 200}, "attack": {}}
    large = {"model": {"hidden_channels": 64, "step": 0.1}, "training": {"epochs": 200}, "attack": {}}
    section = only(runs(make_result, [80.0], hyperparameters=small) + runs(make_result, [60.0], hyperparameters=large))
    assert section.models == ("gcn (a)", "gcn (b)")
    assert sorted(score.mean for score in section.scores.values()) == [60.0, 80.0]
    told = "gcn was run with 2 sets of hyperparameters, which are kept apart: "
    told += "(a) model.hidden_channels = 16, model.step = not set; (b) model.hidden_channels = 64, model.step = 0.1."
    assert any(told in note for note in section.notes)


def test_attacks_of_other_seeds_are_other_rows(make_result: Make) -> None:
    def hyperparameters(seed: int) -> dict[str, Any]:
        return {"model": {}, "training": {}, "attack": {"seed": seed}}

    section = only([make_result(hyperparameters=hyperparameters(s), accuracy=50.0 + s) for s in (0, 1)])
    assert [c.attack for c in section.conditions] == ["metattack (a)", "metattack (b)"]
    assert section.models == ("gcn",)


def test_data_sets_and_splits_have_tables_of_their_own(make_result: Make) -> None:
    sections = summarise(
        [make_result(), make_result(dataset="citeseer"), make_result(split="random", split_seed=3), make_result(seed=1)]
    )
    assert [s.title for s in sections] == [
        "cora (split prognn)",
        "citeseer (split prognn)",
        "cora (split random, seed 3)",
    ]


def test_several_splits_give_the_mean_over_splits_of_the_mean_over_seeds(make_result: Make) -> None:
    def split(number: int, accuracies: Sequence[float], **changes: Any) -> list[Result]:
        return runs(make_result, accuracies, split="random", split_seed=number, **changes)

    section = only([*split(1, [50.0, 54.0], n_evaluated=1990), *split(0, [60.0, 62.0]), *split(2, [40.0, 44.0])])
    assert section.title == "cora (3 random splits)"
    ((condition, _),) = section.scores
    (score,) = section.scores.values()
    assert score.values == (61.0, 52.0, 42.0)
    assert score.std == pytest.approx(statistics.stdev((61.0, 52.0, 42.0)))
    assert score.seeds == ("split 0", "split 1", "split 2")
    assert section.over_text == "mean ± standard deviation over 3 splits of the mean over 2 seeds"
    assert [part.title for part in section.parts] == [f"cora (split random, seed {number})" for number in range(3)]
    assert next(iter(section.parts[1].scores.values())).values == (50.0, 54.0)
    assert condition.n_evaluated == 1989
    assert "The splits differ in the number of evaluated nodes: 1988 to 1990." in section.notes
    assert not any("Not every number" in note for note in section.notes)


def test_a_split_that_lacks_a_seed_is_told(make_result: Make) -> None:
    lines = [make_result(split="own", split_seed=number, seed=seed) for number in (0, 1) for seed in (0, 1)]
    told = "Not every number is a mean over the same 4 training(s): gat under metattack 25 % 3."
    gat = [make_result(split="own", split_seed=k, seed=seed, model="gat") for k, seed in ((0, 0), (0, 1), (1, 0))]
    assert told in only([*lines, *gat]).notes


def test_a_published_split_is_one_whatever_its_seed(make_result: Make) -> None:
    assert len(summarise([make_result(), make_result(split_seed=1)])) == 2


def test_notes_tell_of_gaps_repeats_commits_and_versions(make_result: Make) -> None:
    section = only(
        [
            *runs(make_result, [1.0, 2.0]),
            *runs(make_result, [1.0, 2.0], attack="clean"),
            *runs(
                make_result, [3.0], model="gat", commit="other", versions={"python": "3.10"}, uncommitted_changes=True
            ),
            make_result(accuracy=99.0),
        ]
    )
    notes = "\n".join(section.notes)
    assert "1 repeated line(s) were left out" in notes
    assert next(iter(section.scores.values())).values == (1.0, 2.0)
    assert "gat was not measured under clean." in notes
    assert "Not every number is a mean over the same 2 seed(s): gat under metattack 25 % 1." in notes
    assert "2 commits: c0ffee, other" in notes
    assert "uncommitted changes" in notes
    assert "2 sets of package versions" in notes
    assert "devices" not in notes


def test_numbers_from_two_devices_are_told_apart(make_result: Make) -> None:
    lines = [make_result(), make_result(seed=1, device="cuda (a card)")]
    (section,) = summarise(lines)
    assert "The numbers come from 2 devices: cpu, cuda (a card)." in section.notes


def test_models_stand_in_the_order_asked_for(make_result: Make) -> None:
    results = [make_result(model=model) for model in ("b", "x", "a", "c")]
    (section,) = summarise(results, order=["a", "b", "c", "a"])
    assert section.models == ("a", "b", "c", "x")
    assert only(results).models == ("b", "x", "a", "c")


def test_a_plain_run_has_nothing_to_tell(make_result: Make) -> None:
    assert only(runs(make_result, [1.0, 2.0]) + runs(make_result, [1.0, 2.0], attack="clean")).notes == ()


def test_budgets_are_written_with_their_units(make_result: Make) -> None:
    cases = {
        ("fraction of edges", 0.05): "5 % of edges",
        ("fraction of feature entries", 0.125): "12.5 % of feature entries",
        ("edges", 50): "50 edges",
        ("edges per target", 5): "5 edges per target",
        ("feature entries per target", 1): "1 feature entry per target",
    }
    for (unit, budget), text in cases.items():
        (condition,) = only([make_result(budget=budget, budget_unit=unit)]).conditions
        assert condition.budget_text == text


def test_published_numbers_are_matched_by_data_set_attack_and_budget(tmp_path: Path, make_result: Make) -> None:
    path = tmp_path / "anchors.csv"
    path.write_text(
        "dataset,attack,budget,model,accuracy,std,source\n"
        "cora,clean,0,GCN,83.5,0.44,A\ncora,metattack,0.25,GCN,47.53,,B\nciteseer,metattack,0.25,GCN,56.94,2.09,C\n"
    )
    anchors = read_anchors(path)
    assert anchors[1].std is None
    section = only([make_result(), make_result(attack="clean")])
    matched = {(c.short, a.source) for c in section.conditions for a in anchors if a.matches("cora", c)}
    assert matched == {("clean", "A"), ("metattack 25 %", "B")}


def test_published_numbers_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "anchors.csv"
    with pytest.raises(AnchorError, match="cannot read"):
        read_anchors(path)
    path.write_text("dataset,attack\n")
    with pytest.raises(AnchorError, match=r"lacks the column\(s\) budget, model, accuracy, std, source"):
        read_anchors(path)
    path.write_text("dataset,attack,budget,model,accuracy,std,source\ncora,clean,0,GCN,good,,A\n")
    with pytest.raises(AnchorError, match=r"line 2.*good"):
        read_anchors(path)
