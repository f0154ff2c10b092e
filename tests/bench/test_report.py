from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from contractive_gnn.bench.invocations import Invocation
from contractive_gnn.bench.report import Report, ReportError
from contractive_gnn.bench.results import Result, ResultsFile
from contractive_gnn.bench.text_tables import CSV_COLUMNS
from contractive_gnn.extras import MissingExtraError

Make = Callable[..., Result]

TARGETS: dict[str, Any] = {
    "attack": "nettack",
    "budget": 5,
    "budget_unit": "edges per target",
    "evaluated_on": "targets",
    "n_evaluated": 83,
}


@pytest.fixture
def folder(tmp_path: Path, make_result: Make) -> Path:
    """Two models, two seeds, clean and three attacks, with published numbers and the command beside them."""
    accuracies = {
        ("gcn", "clean", 0): (83.0, 84.0),
        ("gcn", "metattack", 0.05): (76.0, 77.0),
        ("gcn", "metattack", 0.25): (47.0, 49.0),
        ("gcn", "nettack", 5): (56.0, 58.0),
        ("csgnn", "clean", 0): (82.0, 84.0),
        ("csgnn", "metattack", 0.05): (81.0, 82.0),
        ("csgnn", "metattack", 0.25): (74.0, 75.0),
        ("csgnn", "nettack", 5): (82.0, 84.0),
    }
    with ResultsFile(tmp_path / "results.jsonl") as file:
        for (model, attack, budget), values in accuracies.items():
            for seed, accuracy in enumerate(values):
                changes = {"attack": attack, "budget": budget} if attack != "nettack" else TARGETS
                file.append(make_result(model=model, seed=seed, accuracy=accuracy, clean_accuracy=83.0, **changes))
    Invocation("contractive-gnn bench --dataset cora", ["gcn", "csgnn"]).append_to(tmp_path)
    (tmp_path / "anchors.csv").write_text(
        "dataset,attack,budget,model,accuracy,std,source\n"
        "cora,metattack,0.25,GCN,47.53,1.96,Pro-GNN Table 2\n"
        "cora,metattack,0.25,Pro-GNN,69.72,1.69,Pro-GNN Table 2\n"
        "cora,metattack,0.10,GCN,70.39,1.28,Pro-GNN Table 2\n"
        "citeseer,metattack,0.25,GCN,56.94,2.09,Pro-GNN Table 2\n"
    )
    return tmp_path


def test_markdown_has_exactly_these_numbers(folder: Path) -> None:
    table = [line for line in Report.of(folder).markdown().splitlines() if line.startswith("|")]
    assert table == [
        "| model | worst (of 2 attacks) | clean | metattack 5 % (poisoning) | metattack 25 % (poisoning) "
        "| nettack 5 (poisoning, targets) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| gcn | 48.0 ± 1.4 (metattack 25 %) | **83.5 ± 0.7** | 76.5 ± 0.7 | 48.0 ± 1.4 | 57.0 ± 1.4 |",
        "| csgnn | **74.5 ± 0.7 (metattack 25 %)** | 83.0 ± 1.4 | **81.5 ± 0.7** | **74.5 ± 0.7** | **83.0 ± 1.4** |",
    ]


def test_what_the_numbers_are_of_is_said(folder: Path) -> None:
    text = Report.of(folder).markdown()
    assert "Accuracy in percent over 1988 test nodes, 83 targets; mean ± standard deviation over 2 seeds;" in text
    assert "The graphs of metattack, nettack are as others published them." in text


def test_each_kind_of_nodes_has_a_worst_of_its_own(folder: Path, make_result: Make) -> None:
    with ResultsFile(folder / "results.jsonl") as file:
        for model in ("gcn", "csgnn"):
            for seed in range(2):
                changes = {**TARGETS, "budget": 3, "attack_source": "live", "threat": "evasion"}
                file.append(make_result(model=model, seed=seed, accuracy=70.0, **changes))
    (head,) = (line for line in Report.of(folder).markdown().splitlines() if line.startswith("| model"))
    assert head.startswith("| model | worst (of 2 attacks, test nodes) | worst (of 2 attacks, targets) | clean |")


def test_markdown_says_how_it_was_made(folder: Path) -> None:
    text = Report.of(folder).markdown()
    assert "- Command: `contractive-gnn bench --dataset cora`" in text
    assert "- Commit: `c0ffee`" in text
    assert "- Versions: `python 3.11, torch 2.14`" in text
    assert "over 2 seeds" in text


def test_one_seed_has_no_deviation(tmp_path: Path, make_result: Make) -> None:
    with ResultsFile(tmp_path / "results.jsonl") as file:
        file.append(make_result(accuracy=80.0))
    text = Report.of(tmp_path).markdown()
    assert "over 1988 test nodes; of one seed;" in text
    assert "±" not in text


def test_csv_has_exactly_these_numbers(folder: Path) -> None:
    rows = list(csv.DictReader(StringIO(Report.of(folder, anchors=folder / "anchors.csv").csv())))
    assert list(rows[0]) == list(CSV_COLUMNS)
    assert len(rows) == 8 + 2
    found = [
        (row["model"], row["origin"], row["accuracy"], row["std"], row["n_seeds"], row["source"])
        for row in rows
        if (row["attack"], row["budget"]) == ("metattack", "0.25")
    ]
    assert found == [
        ("gcn", "measured", "48.0000", "1.4142", "2", ""),
        ("csgnn", "measured", "74.5000", "0.7071", "2", ""),
        ("GCN", "published", "47.53", "1.96", "", "Pro-GNN Table 2"),
        ("Pro-GNN", "published", "69.72", "1.69", "", "Pro-GNN Table 2"),
    ]


def test_published_numbers_stand_beside_and_are_marked(folder: Path) -> None:
    text = Report.of(folder, anchors=folder / "anchors.csv").markdown()
    assert "| GCN, published | – | – | – | 47.5 ± 2.0 | – |" in text
    assert "| Pro-GNN, published | – | – | – | 69.7 ± 1.7 | – |" in text
    assert "not measured here: GCN (Pro-GNN Table 2), Pro-GNN (Pro-GNN Table 2)." in text
    assert "70.4" not in text  # a budget that was not measured
    assert "56.9" not in text  # another data set


def test_one_model_published_twice_is_told_apart(folder: Path) -> None:
    with (folder / "anchors.csv").open("a") as file:
        file.write("cora,clean,0,GCN,81.5,,another table\n")
    text = Report.of(folder, anchors=folder / "anchors.csv").markdown()
    assert "| GCN, published (another table) | – | 81.5 | – | – | – |" in text
    assert "| GCN, published (Pro-GNN Table 2) | – | – | – | 47.5 ± 2.0 | – |" in text


def test_a_worst_over_fewer_attacks_is_marked_and_not_compared(folder: Path, make_result: Make) -> None:
    with ResultsFile(folder / "results.jsonl") as file:
        for seed in range(2):
            file.append(make_result(model="gat", seed=seed, accuracy=99.0, budget=0.05))
    rows = [line for line in Report.of(folder).markdown().splitlines() if line.startswith("| ")][2:]
    worst = [row.split("|")[2] for row in rows]
    assert " 99.0 ± 0.0 (metattack 5 %, not all attacks) " in worst
    assert "**" not in "".join(worst)


def test_an_attack_that_doubts_itself_is_marked(folder: Path, make_result: Make) -> None:
    with ResultsFile(folder / "results.jsonl") as file:
        for seed in range(2):
            doubts = ["the gradient is masked"]
            file.append(make_result(attack="prbcd", model="csgnn", seed=seed, accuracy=60.0, unreliable=doubts))
    text = Report.of(folder).markdown()
    assert "| 60.0 ± 0.0† |" in text
    assert "60.0 ± 0.0† (prbcd 25 %)" in text
    told = (
        "- † csgnn under prbcd 25 %: by the attack's own diagnosis a stronger one may exist (the gradient is masked)."
    )
    assert told in text


def test_latex_has_the_same_table(folder: Path) -> None:
    text = Report.of(folder, anchors=folder / "anchors.csv").latex()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert r"\begin{tabular}{lrrrrr}" in text
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line.strip() for line in body.splitlines() if "&" in line]
    assert all(row.endswith("\\\\") and row.count("&") == 5 for row in rows)
    assert r"csgnn & \textbf{74.5 $\pm$ 0.7} {\footnotesize(metattack 25 \%)} & 83.0 $\pm$ 1.4" in body
    assert r"\textit{GCN, published} & \textit{--} & \textit{--}" in body
    assert not re.search(r"(?<!\\)[%#_]", body)


def test_latex_escapes_what_tex_would_read(tmp_path: Path, make_result: Make) -> None:
    with ResultsFile(tmp_path / "results.jsonl") as file:
        file.append(make_result(model=r"a_b&c%d\e{f}"))
    assert r"a\_b\&c\%d\textbackslash{}e\{f\}" in Report.of(tmp_path).latex()


def test_the_terminal_shows_the_same_table(folder: Path) -> None:
    file = StringIO()
    Report.of(folder, anchors=folder / "anchors.csv").print(Console(file=file, width=160))
    shown = file.getvalue()
    for text in ("cora (split prognn)", "worst", "of 2 attacks", "47.5 ± 2.0", "Pro-GNN Table 2"):
        assert text in shown
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "gcn 48.0 ± 1.4 83.5 ± 0.7 76.5 ± 0.7 48.0 ± 1.4 57.0 ± 1.4" in rows
    assert "Accuracy in percent over 1988 test nodes, 83 targets;" in " ".join(rows)


@pytest.mark.parametrize("width", [30, 50, 80])
def test_a_narrow_terminal_gets_several_tables(folder: Path, make_result: Make, width: int) -> None:
    with ResultsFile(folder / "results.jsonl") as file:
        for number in range(6):
            attack = f"long-name-{number}"
            file.append(make_result(model="gat", attack=attack, attack_source="live", accuracy=20.0 + number))
    file = StringIO()
    Report.of(folder).print(Console(file=file, width=width))
    table = file.getvalue().split("Accuracy")[0]
    assert max(map(len, table.splitlines())) <= max(width, 50)
    for number in range(6):
        assert table.count(f"{20 + number}.0") == (2 if number == 0 else 1)  # under its attack, and as the worst


class Page(HTMLParser):
    """Collects what a page would load from elsewhere, its ids and the cells of its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attributes}
        self.loads += [values[key] for key in ("src", "data", "action") if key in values]
        for key, value in values.items():
            if key.endswith("href"):
                (self.references if value.startswith("#") else self.loads).append(value)
            self.references += re.findall(r"url\((#[^)]+)\)", value)
        self.ids += [values["id"]] if "id" in values else []
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += text


def read(path: Path) -> tuple[str, Page]:
    """A page, and what a parser finds in it."""
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    return text, page


def test_the_page_needs_no_other_file(folder: Path) -> None:
    written = Report.of(folder).write(folder)
    assert [path.name for path in written] == ["table.md", "table.csv", "table.tex", "report.html"]
    text, page = read(written[-1])
    assert page.open == []
    assert page.loads == []
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {reference.removeprefix("#") for reference in page.references} <= set(page.ids)
    assert "74.5 ± 0.7" in page.cells
    for told in ("contractive-gnn bench --dataset cora", "c0ffee", "torch 2.14", "over 2 seeds"):
        assert told in text


def test_the_page_says_the_worst_first(folder: Path) -> None:
    text, page = read(Report.of(folder).write(folder)[-1])
    told = text.index("Under the worst of 2 attacks on test nodes: <strong>csgnn</strong> keeps 74.5 ± 0.7")
    assert told < text.index("<table")
    assert page.cells[:3] == ["model", "worst", "clean"]


def test_a_worst_over_fewer_attacks_is_ranked_with_no_other(folder: Path, make_result: Make) -> None:
    with ResultsFile(folder / "results.jsonl") as file:
        for seed in range(2):
            file.append(make_result(model="gat", seed=seed, accuracy=99.0, budget=0.05))
    text, _ = read(Report.of(folder).write(folder)[-1])
    headline = text.split('<p class="headline">')[1].split("</p>")[0]
    assert headline.startswith("Over test nodes, not every model under every attack: <strong>")
    assert "<strong>gat</strong> keeps 99.0 ± 0.0" in headline
    assert "the most" not in headline


def test_a_page_without_the_drawing_library_has_still_pictures_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> str:
        raise MissingExtraError("an interactive page needs vl_convert, which is not installed")

    monkeypatch.setattr("contractive_gnn.bench.page.library", absent)
    text, page = read(Report.of(folder).write(folder)[-1])
    assert text.count("<figure") == 3  # the overview, metattack and nettack
    assert "an interactive page needs vl_convert" in text
    assert page.open == page.loads == []
    assert len(page.ids) == len(set(page.ids))


def test_text_from_the_results_is_escaped_in_the_page(tmp_path: Path, make_result: Make) -> None:
    with ResultsFile(tmp_path / "results.jsonl") as file:
        file.append(make_result(model="</script><script>alert(1)</script>"))
    text = Report.of(tmp_path).write(tmp_path)[-1].read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    assert "\\u003cscript>alert(1)" in text  # in the data that the scripts read


def test_a_picture_for_each_attack_and_one_for_all(folder: Path) -> None:
    Report.of(folder, anchors=folder / "anchors.csv").write(folder)
    names = {"overview", "accuracy_metattack", "accuracy_nettack"}
    assert {path.stem for path in folder.glob("*.png")} == names
    assert {path.stem for path in folder.glob("*.svg")} == names
    assert not list(folder.glob(".*"))
    for name in names:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")


def test_pictures_are_the_same_when_drawn_again(folder: Path) -> None:
    drawn = []
    for _ in range(2):
        Report.of(folder).write(folder)
        drawn.append({path.name: path.read_bytes() for path in folder.glob("*.svg")})
    assert drawn[0] == drawn[1]


def test_threats_units_and_data_sets_get_pictures_of_their_own(tmp_path: Path, make_result: Make) -> None:
    with ResultsFile(tmp_path / "results.jsonl") as file:
        file.append(make_result())
        file.append(make_result(threat="evasion"))
        file.append(make_result(threat="evasion", budget=50, budget_unit="edges"))
        file.append(make_result(dataset="citeseer"))
    Report.of(tmp_path).write(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        "cora-prognn-0_overview",
        "cora-prognn-0_accuracy_metattack_poisoning",
        "cora-prognn-0_accuracy_metattack_evasion_fraction-of-edges",
        "cora-prognn-0_accuracy_metattack_evasion_edges",
        "citeseer-prognn-0_overview",
        "citeseer-prognn-0_accuracy_metattack",
    }


def test_several_attacks_in_a_row_are_no_curve_and_no_published_graph(tmp_path: Path, make_result: Make) -> None:
    with ResultsFile(tmp_path / "results.jsonl") as file:
        file.append(make_result())
        file.append(make_result(attack="metattack+flip-features:0.1", accuracy=40.0))
    table = Report.of(tmp_path).write(tmp_path)[0].read_text(encoding="utf-8")
    assert {path.stem for path in tmp_path.glob("*.png")} == {"overview", "accuracy_metattack"}
    assert "The graphs of metattack are as others published them." in table
    assert "| metattack 25 % + flip-features:0.1 (poisoning) |" in table
    assert "(metattack 25 % + flip-features:0.1)" in table


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").touch()
    with pytest.raises(ReportError, match="no finished result"):
        Report.of(tmp_path)


def test_the_caption_says_what_an_inductive_split_is(tmp_path: Path, make_result: Make) -> None:
    with ResultsFile(tmp_path / "results.jsonl") as file:
        file.append(make_result(split="inductive", threat="evasion", budget_unit="fraction of edges at test nodes"))
    report = Report.of(tmp_path)
    assert "cora (split inductive, seed 0)" in report.markdown()
    told = "Models were fitted on the graph without the test nodes, and a share of the edges is of those at them."
    assert told in report.caption(report.sections[0])


def test_splits_are_folded_and_bins_have_a_table(tmp_path: Path, make_result: Make) -> None:
    with ResultsFile(tmp_path / "results.jsonl") as file:
        for split, (few, many) in enumerate([(10.0, 30.0), (20.0, 40.0)]):
            bins = {
                name: {"n": 5, "accuracy": value, "clean_accuracy": 90.0}
                for name, value in (("degree quarter 1", few), ("degree quarter 4", many))
            }
            result = make_result(**TARGETS, split="random", split_seed=split, accuracy=(few + many) / 2)
            file.append(dataclasses.replace(result, breakdown=bins))
            file.append(make_result(split="random", split_seed=split, accuracy=70.0 + split))
    report = Report.of(tmp_path)
    report.write(tmp_path)
    markdown, page = ((tmp_path / name).read_text(encoding="utf-8") for name in ("table.md", "report.html"))
    whole, *folded = markdown.split("<details>")
    assert "## cora (2 random splits)" in whole
    assert "| gcn | 70.5 ± 0.7 | 25.0 ± 7.1 |" in whole
    assert "nettack 5, poisoning, by bins of the targets, each with the clean accuracy:" in whole
    assert "| gcn | 15.0 ± 7.1 (90.0) | 35.0 ± 7.1 (90.0) |" in whole
    assert ["| gcn | 70.0 | 20.0 |" in folded[0], "| gcn | 71.0 | 30.0 |" in folded[1]] == [True, True]
    assert "<details class='parts'><summary>Each of the 2 splits</summary>" in page
    assert 'title="split 0: 20.0, split 1: 30.0"' in page
    shown = Console(file=StringIO(), width=100)
    report.print(shown)
    assert isinstance(shown.file, StringIO)
    assert "by bins of the targets" in shown.file.getvalue()
    lines = [line.split(",") for line in report.csv().splitlines()]
    seeds, splits = lines[0].index("split_seed"), lines[0].index("n_splits")
    assert [(line[seeds], line[splits]) for line in lines[1:]] == [("", "2")] * 2 + [("0", "")] * 2 + [("1", "")] * 2
