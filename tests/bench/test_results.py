from __future__ import annotations

import dataclasses
import errno
import json
import subprocess
import sys
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contractive_gnn.bench.results import (
    Result,
    ResultsError,
    ResultsFile,
    current_commit,
    current_versions,
    digest,
    read_results,
    replacing,
)

Make = Callable[..., Result]


def test_results_are_read_back_as_they_were_written(tmp_path: Path, make_result: Make) -> None:
    results = [make_result(seed=seed, accuracy=50.0 + seed, commit=None) for seed in range(3)]
    with ResultsFile(tmp_path / "sub" / "results.jsonl") as file:
        for result in results:
            file.append(result)
    assert read_results(file.path) == results
    lines = file.path.read_text().splitlines()
    assert [json.loads(line)["accuracy"] for line in lines] == [50.0, 51.0, 52.0]


def test_a_finished_cell_is_known_and_never_written_twice(tmp_path: Path, make_result: Make) -> None:
    with ResultsFile(tmp_path / "results.jsonl") as file:
        file.append(make_result())
    with ResultsFile(tmp_path / "results.jsonl") as file:
        assert make_result(accuracy=51.0) in file
        with pytest.raises(ResultsError, match="already holds"):
            file.append(make_result(accuracy=51.0))
    assert len(read_results(file.path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "citeseer"},
        {"split": "random"},
        {"split_seed": 1},
        {"model": "gat"},
        {"attack": "nettack"},
        {"threat": "evasion"},
        {"budget": 0.2},
        {"budget": 1, "budget_unit": "edges"},
        {"seed": 1},
        {"hyperparameters": {"model": {"hidden_channels": 17}, "training": {"epochs": 200}, "attack": {}}},
        {"hyperparameters": {"model": {"hidden_channels": 16}, "training": {"epochs": 200}, "attack": {"seed": 1}}},
    ],
)
def test_a_cell_with_one_difference_is_another_cell(change: dict[str, object], make_result: Make) -> None:
    assert make_result(**change).key != make_result().key


def test_one_flip_and_as_many_flips_as_edges_are_different_cells(make_result: Make) -> None:
    one = make_result(budget=1, budget_unit="edges")
    all_of_them = make_result(budget=1.0, budget_unit="fraction of edges")
    assert one.key != all_of_them.key
    assert {type(Result.from_line(result.to_line()).budget) for result in (one, all_of_them)} == {int, float}


@pytest.mark.parametrize("change", [{"accuracy": 1.0}, {"train_s": 9.0}, {"commit": None}, {"versions": {}}])
def test_what_was_measured_does_not_make_another_cell(change: dict[str, object], make_result: Make) -> None:
    assert make_result(**change).key == make_result().key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_cut_anywhere_loses_only_the_line_it_was_cut_in(
    data: st.DataObject, tmp_path: Path, make_result: Make
) -> None:
    results = [make_result(seed=seed, model="gcn-é") for seed in range(3)]  # more than one byte in a letter
    whole = "".join(result.to_line() for result in results).encode()
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path / "results.jsonl"
    path.write_bytes(whole[:cut])
    intact = whole[:cut].count(b"\n")
    assert read_results(path) == results[:intact]
    with ResultsFile(path) as file:
        assert list(file.finished.values()) == results[:intact]
        for result in results:
            if result not in file:
                file.append(result)
    assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path, make_result: Make) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(make_result().to_line() + '{"dataset": "cora"\n' + make_result(seed=1).to_line())
    for read in (read_results, ResultsFile):
        with pytest.raises(ResultsError, match=r"results.jsonl, line 2: not JSON"):
            read(path)
    path.write_text('{"dataset": "cora"}\n')
    with pytest.raises(ResultsError, match=r"line 1: lacks the field\(s\) split, split_seed, model"):
        read_results(path)
    path.write_text(make_result().to_line().replace('"seed": 0', '"seed": null'))
    with pytest.raises(ResultsError, match=r"line 1: seed cannot be None \(NoneType\); remove or repair"):
        read_results(path)
    path.write_text("[]\n")
    with pytest.raises(ResultsError, match="expected a JSON object, got list"):
        read_results(path)


class Full:
    """A file on a disk with room for ``room`` bytes more, which takes what fits and ``most`` bytes at a time."""

    def __init__(self, file: FileIO, room: int, *, most: int = 1 << 20, stuck: bool = False) -> None:
        self.file, self.room, self.most, self.stuck, self.name = file, room, most, stuck, file.name

    def write(self, content: memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.file.write(content[: min(self.room, self.most)])
        self.room -= taken
        return taken

    def truncate(self, size: int) -> int:
        if self.stuck:
            raise OSError(errno.EIO, "Input/output error")
        return self.file.truncate(size)

    def fileno(self) -> int:
        return self.file.fileno()

    def close(self) -> None:
        self.file.close()


class TestAFullDisk:
    def test_what_is_taken_in_parts_is_written_whole(self, tmp_path: Path, make_result: Make) -> None:
        with ResultsFile(tmp_path / "results.jsonl") as file:
            file._file = Full(file._file, room=1 << 20, most=7)  # type: ignore[assignment]
            file.append(make_result())
        assert read_results(file.path) == [make_result()]

    def test_a_part_of_a_line_is_cut_away_and_told(self, tmp_path: Path, make_result: Make) -> None:
        with ResultsFile(tmp_path / "results.jsonl") as file:
            file.append(make_result())
            before = file.path.read_bytes()
            whole, file._file = file._file, Full(file._file, room=40)  # type: ignore[assignment]
            for _ in range(2):
                with pytest.raises(ResultsError, match=r"no more lines \(No space left on device\); what was there"):
                    file.append(make_result(seed=1))
                assert file.path.read_bytes() == before
            assert make_result(seed=1) not in file
            file._file = whole  # there is room again
            file.append(make_result(seed=1))
        assert read_results(file.path) == [make_result(), make_result(seed=1)]

    def test_nothing_follows_a_part_that_cannot_be_cut_away(self, tmp_path: Path, make_result: Make) -> None:
        with ResultsFile(tmp_path / "results.jsonl") as file:
            file.append(make_result())
            file._file = Full(file._file, room=40, stuck=True)  # type: ignore[assignment]
            with pytest.raises(ResultsError, match="takes no more lines"):
                file.append(make_result(seed=1))
            with pytest.raises(ValueError, match="closed file"):
                file.append(make_result(seed=2))
        with ResultsFile(tmp_path / "results.jsonl") as file:
            file.append(make_result(seed=2))
        assert read_results(file.path) == [make_result(), make_result(seed=2)]

    @pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
    def test_a_limit_of_the_system(self, tmp_path: Path, make_result: Make) -> None:
        import resource

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        with ResultsFile(tmp_path / "results.jsonl") as file:
            file.append(make_result())
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.path.stat().st_size + 40, before[1]))
            try:
                with pytest.raises(ResultsError, match=r"takes no more lines \(File too large\)"):
                    file.append(make_result(seed=1))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert read_results(file.path) == [make_result()]


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for write in (lambda path: ResultsFile(path), lambda path: replacing(path).__enter__()):
        with pytest.raises(ResultsError, match=r"file cannot be made a folder \(File exists\); choose another path"):
            write(tmp_path / "file" / "results.jsonl")
    (tmp_path / "results.jsonl").mkdir()
    with pytest.raises(ResultsError, match=r"results.jsonl cannot be written to \(Is a directory\)"):
        ResultsFile(tmp_path / "results.jsonl")


def test_a_missing_file_is_an_error_that_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="contractive-gnn bench --out"):
        read_results(tmp_path / "results.jsonl")


def test_two_runs_cannot_write_to_one_file(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "results.jsonl"), pytest.raises(ResultsError, match="another run is writing"):
        ResultsFile(tmp_path / "results.jsonl")
    ResultsFile(tmp_path / "results.jsonl").close()


@pytest.mark.parametrize("accuracy", [float("nan"), -0.1, 100.1, float("inf")])
def test_an_accuracy_is_a_percentage(accuracy: float, make_result: Make) -> None:
    with pytest.raises(ResultsError, match="percentage"):
        make_result(accuracy=accuracy)


def test_a_line_of_a_later_version_can_be_read(make_result: Make) -> None:
    record = {**json.loads(make_result().to_line()), "new_field": 1}
    assert Result.from_line(json.dumps(record)) == make_result()


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})


def test_versions_and_commit_are_those_of_this_process() -> None:
    versions = current_versions()
    assert versions["torch"] is not None
    assert list(versions) == ["python", "torch", "torch_geometric", "numpy", "deeprobust", "contractive_gnn"]
    commit, _ = current_commit()
    here = Path(__file__).parent
    head = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert commit in (None, head.stdout.strip())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with replacing(path) as partial:
        partial.write_text("first")
        assert partial.suffix == ".csv"
        assert not path.exists()
    with pytest.raises(TypeError, match="str"), replacing(path) as partial, partial.open("w") as file:
        file.writelines(["sec", 2])  # type: ignore[list-item]
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(tmp_path / "new" / "folder" / "table.csv") as partial:
        partial.write_text("first")
    assert (tmp_path / "new" / "folder" / "table.csv").read_text() == "first"


def test_a_line_without_a_breakdown_is_read(make_result: Make) -> None:
    bins = {"class 0": {"n": 2, "accuracy": 50.0, "clean_accuracy": 100.0}}
    result = dataclasses.replace(make_result(), breakdown=bins)
    assert Result.from_line(result.to_line()) == result
    record = json.loads(result.to_line())
    del record["breakdown"]
    assert Result.from_line(json.dumps(record)) == make_result()
    with pytest.raises(ResultsError, match=r"breakdown cannot be \[\] \(list\)"):
        Result.from_line(json.dumps({**record, "breakdown": []}))
