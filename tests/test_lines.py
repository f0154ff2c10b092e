"""Files of lines that others build on."""

from __future__ import annotations

from pathlib import Path

import pytest

from contractive_gnn.lines import ResultsError, finished_lines, json_object


def test_an_unfinished_last_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ', encoding="utf-8")
    assert finished_lines(path, json_object) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b'{"a": 1}\n{"a"\n', "not JSON"), (b'{"a": 1}\n[1]\n', "expected a JSON object, got list"), (b"{}\n\xff\n", "")],
)
def test_a_finished_line_that_is_none_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=f"line 2: .*{reason}.*; remove or repair that line"):
        finished_lines(path, json_object)


def test_a_file_that_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be read"):
        finished_lines(tmp_path / "lines.jsonl", json_object)
