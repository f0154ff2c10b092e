"""The report's page in a real browser: nothing on the console, and what a reader switches is switched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contractive_gnn.bench.invocations import Invocation
from contractive_gnn.bench.report import Report, ReportError
from contractive_gnn.bench.results import Result, ResultsFile

Make = Callable[..., Result]


VISIBLE_ROWS = "[...document.querySelectorAll('tr[data-model]')].filter((r) => !r.hidden).map((r) => r.dataset.model)"
HEADS = "[...document.querySelectorAll('thead th')].filter((h) => !h.hidden).map((h) => h.textContent)"
SHAPES = "document.querySelectorAll('[data-chart=\"{}\"] svg.marks path').length"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, make_result: Make) -> Path:
    """Three models, three seeds, attacks at several budgets, a doubt, published numbers and a transfer."""
    tmp_path = tmp_path_factory.mktemp("report")
    learned = make_result().hyperparameters
    live = {"attack_source": "live", "threat": "evasion"}
    with ResultsFile(tmp_path / "results.jsonl") as file:
        for place, model in enumerate(("gcn", "csgnn", "</script><b>robust")):
            for seed in range(3):
                common = {"model": model, "seed": seed, "clean_accuracy": 84.0 + place}
                file.append(make_result(attack="clean", accuracy=84.0 + place, **common))
                for step, budget in enumerate((0.05, 0.1, 0.25)):
                    fall = (3 - place) * 5 * (step + 1) + seed
                    file.append(make_result(budget=budget, accuracy=84.0 - fall, **common))
                doubt = ["the gradient is masked"] if place == 1 else []
                file.append(
                    make_result(
                        attack="prbcd", budget=0.05, accuracy=40.0 + 5 * place, unreliable=doubt, **live, **common
                    )
                )
                for victim in ("gcn", "csgnn"):
                    made = {"file": f"{victim}.npz", "sha256": victim, "made_by": "prbcd", "victim": victim}
                    replayed = {"attack": f"{victim}.npz", "attack_source": "replayed", "threat": "evasion"}
                    settings = {**learned, "attack": made}
                    given = {**common, **replayed, "budget": 0.05, "accuracy": 60.0 + place}
                    file.append(make_result(hyperparameters=settings, **given))
    Invocation("contractive-gnn bench --dataset cora", ["gcn", "csgnn"]).append_to(tmp_path)
    anchors = tmp_path / "anchors.csv"
    anchors.write_text(
        "dataset,attack,budget,model,accuracy,std,source\n"
        "cora,metattack,0.25,GCN,47.53,1.96,Pro-GNN Table 2\ncora,clean,0,GAT,83.97,,Pro-GNN Table 2\n"
    )
    return Report.of(tmp_path, anchors=anchors).write(tmp_path)[-1]


def opened(browser: Any, page: Path, **options: Any) -> None:
    browser.open(page, **options)
    browser.wait("document.documentElement.dataset.drawn === 'true'")


@pytest.mark.usefixtures("drawing_library")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_opens_without_a_word_on_the_console(browser: Any, page: Path, width: int, dark: bool) -> None:
    opened(browser, page, width=width, dark=dark)
    assert browser.errors == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    drawn = browser.run("[...document.querySelectorAll('.chart')].map((c) => c.querySelector('svg.marks').clientWidth)")
    assert len(drawn) == 3  # the worst case, every seed, metattack
    assert all(250 < chart <= width for chart in drawn)
    ink = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ink == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
    # the first column stays where it is when the table is scrolled
    browser.run("document.querySelector('.table').scrollLeft = 200")
    where = "document.querySelector('{}').getBoundingClientRect().left"
    table, head = (browser.run(where.format(s)) for s in (".table", "tbody th"))
    assert abs(head - table) < 3
    assert all(browser.run("[...document.querySelectorAll('.chart')].map((c) => c.getAttribute('aria-label'))"))


@pytest.mark.usefixtures("drawing_library")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_screenshot_is_of_the_whole_page(browser: Any, page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    opened(browser, page, width=width, dark=dark)
    height = browser.run("document.documentElement.scrollHeight")
    browser.screenshot(tmp_path / "page.png")
    content = (tmp_path / "page.png").read_bytes()
    assert abs(int.from_bytes(content[16:20], "big") - width) <= 20  # a scroll bar
    assert abs(int.from_bytes(content[20:24], "big") - height) <= 20


@pytest.mark.usefixtures("drawing_library")
def test_the_switch_turns_the_theme(browser: Any, page: Path) -> None:
    opened(browser, page)
    before = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.click("#theme")
    after = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (before, after) == ("rgb(255, 255, 255)", "rgb(20, 23, 26)")
    assert browser.errors == []


@pytest.mark.usefixtures("drawing_library")
def test_a_model_switched_off_leaves_table_and_charts(browser: Any, page: Path) -> None:
    opened(browser, page)
    assert browser.run(VISIBLE_ROWS) == ["</script><b>robust", "csgnn", "gcn", "GAT", "GCN"]
    marks = browser.run(SHAPES.format("worst-test"))
    browser.click(".toggles fieldset:nth-child(1) label:nth-of-type(1) input")
    assert browser.run(VISIBLE_ROWS) == ["</script><b>robust", "csgnn", "GAT", "GCN"]
    browser.wait(f"{SHAPES.format('worst-test')} < {marks}")
    assert browser.errors == []


@pytest.mark.usefixtures("drawing_library")
def test_the_worst_is_over_the_attacks_left_on(browser: Any, page: Path) -> None:
    opened(browser, page)
    worst = "[...document.querySelectorAll('td.worst')].slice(0, 3).map((c) => c.innerText.replace('\\n', ' '))"
    assert browser.run(worst) == ["50.0 ± 0.0 prbcd 5 %", "45.0 ± 0.0† prbcd 5 %", "38.0 ± 1.0 metattack 25 %"]
    assert "prbcd 5 %evasion" in browser.run(HEADS)
    boxes = "[...document.querySelectorAll('.toggles fieldset:nth-child(2) label')]"
    place = browser.run(f"{boxes}.findIndex((l) => l.textContent === 'prbcd 5 %')") + 1
    browser.click(f".toggles fieldset:nth-child(2) label:nth-of-type({place}) input")
    assert browser.run(worst) == ["62.0 ± 0.0 gcn.npz 5 %", "53.0 ± 1.0 metattack 25 %", "38.0 ± 1.0 metattack 25 %"]
    assert not any("prbcd" in head for head in browser.run(HEADS))
    assert browser.errors == []


@pytest.mark.usefixtures("drawing_library")
def test_a_column_sorts_both_ways(browser: Any, page: Path) -> None:
    opened(browser, page)
    worst = "th[data-column=worst-test] button"
    browser.click(worst)
    assert browser.run(VISIBLE_ROWS) == ["gcn", "csgnn", "</script><b>robust", "GAT", "GCN"]
    assert browser.run("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "ascending"
    browser.click(worst)
    assert browser.run(VISIBLE_ROWS)[0] == "</script><b>robust"


@pytest.mark.usefixtures("drawing_library")
def test_the_pointer_finds_seeds_and_a_click_does_too(browser: Any, page: Path) -> None:
    opened(browser, page)
    dots = "[data-chart=seeds] path[aria-label*='seed: 2']"
    assert browser.run(f'document.querySelectorAll("{dots}").length') >= 12
    browser.hover(dots)
    tip = "document.querySelector('#vg-tooltip-element')?.innerText ?? ''"
    browser.wait(f"({tip}).includes('seed')")
    assert "model" in browser.run(tip)
    browser.hover("[data-chart=worst-test] path[aria-label*='attack: clean']")
    browser.wait(f"({tip}).includes('clean')")
    assert "undefined" not in browser.run(tip)
    browser.click("tr[data-model=gcn] td.worst")
    assert browser.run("document.querySelector('.detail').innerText") == (
        "gcn, worst, of 6 attacks: seed 0: 39.0, seed 1: 38.0, seed 2: 37.0"
    )


@pytest.mark.usefixtures("drawing_library")
def test_published_numbers_and_single_seeds_can_be_hidden(browser: Any, page: Path) -> None:
    opened(browser, page)
    browser.click(".toggles fieldset:nth-child(3) label:nth-of-type(2) input")
    assert browser.run(VISIBLE_ROWS) == ["</script><b>robust", "csgnn", "gcn"]
    marks = browser.run(SHAPES.format("seeds"))
    browser.click(".toggles fieldset:nth-child(3) label:nth-of-type(1) input")
    browser.wait(f"{SHAPES.format('seeds')} < {marks}")


@pytest.mark.usefixtures("drawing_library")
def test_a_command_is_copied(browser: Any, page: Path) -> None:
    opened(browser, page)
    browser.click("dd.command button")
    browser.wait("document.querySelector('dd.command button').textContent === 'copied'")


def test_a_transfer_matrix_where_results_have_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    matrix = text.split("<h3>Transfer: prbcd, 5 % of edges, evasion</h3>")[1].split("</table>")[0]
    assert [part.split("<")[0] for part in matrix.split("<th scope='row'>")[1:]] == ["gcn", "csgnn"]
    assert matrix.count('class="heat own"') == 2
    assert matrix.count("60.0<") == 2  # gcn, on both graphs
    assert matrix.count("62.0<") == 2


class TestCertificates:
    @pytest.fixture
    def certificates(self, tmp_path: Path, make_result: Make) -> Path:
        folder = tmp_path / "certified"
        folder.mkdir()
        lines = []
        for seed in range(2):
            for budget in (1, 2):
                result = make_result(
                    attack="certificate", budget=budget, budget_unit="edges per node", threat="evasion", seed=seed,
                    model="csgnn", attack_source="generated", flips=0, accuracy=70.0 - 10 * budget + seed,
                    clean_accuracy=83.0,
                )  # fmt: skip
                more = {
                    "certified_accuracy": result.accuracy, "certify_s": 1.0, "val_accuracy": 80.0,
                    "val_certified": 70.0, "reason": "",
                    "attacked_predictions": 100, "broken": 0, "unchanged_accuracy": 79.0 - budget,
                    "method": "interval bounds",
                }  # fmt: skip
                lines.append(json.dumps({**json.loads(result.to_line()), **more}) + "\n")
        (folder / "results.jsonl").write_text("".join(lines))
        return folder

    def test_they_stand_beside_what_attacks_found(self, page: Path, certificates: Path) -> None:
        report = Report.of(page.parent, certified=certificates)
        table = [line for line in report.markdown().splitlines() if line.startswith("| ")]
        assert table[0].startswith(
            "| model | worst (of 6 attacks) | certified (1 edge per node) | certified (2 edges per node) | clean |"
        )
        (own,) = (line for line in table if line.startswith("| csgnn"))
        assert "(prbcd 5 %) | 60.5 ± 0.7 | 50.5 ± 0.7 |" in own
        assert ",csgnn,certified,60.5000,0.7071,2," in report.csv()

    def test_those_of_other_models_are_refused(self, page: Path, certificates: Path) -> None:
        text = (certificates / "results.jsonl").read_text().replace('"csgnn"', '"gat"')
        (certificates / "results.jsonl").write_text(text)
        with pytest.raises(ReportError, match=r"it certifies gat on cora .*; the results are of gcn on cora"):
            Report.of(page.parent, certified=certificates)

    @pytest.mark.usefixtures("drawing_library")
    def test_a_report_of_them_alone(self, browser: Any, certificates: Path) -> None:
        path = Report.of(certificates).write(certificates)[-1]
        text = path.read_text(encoding="utf-8")
        told = "<strong>csgnn</strong>: 60.5 ± 0.7\N{NO-BREAK SPACE}% stay right under 1 edge per node, whatever"
        assert f"{told} the attack (attacks left 78.0" in text
        (own,) = (line for line in Report.of(certificates).markdown().splitlines() if line.startswith("| csgnn"))
        assert own == "| csgnn | 83.0 ± 0.0 | 60.5 ± 0.7 | 78.0 ± 0.0 | 50.5 ± 0.7 | 77.0 ± 0.0 |"
        assert "worst" not in text.split("<table")[1].split("</table>")[0]
        opened(browser, path)
        assert browser.errors == []
        assert browser.run("document.querySelectorAll('[data-chart=certified] svg.marks').length") == 1
