from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from contractive_gnn.bench import presets
from contractive_gnn.bench.presets import PresetError, load_preset


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with an empty folder of presets."""
    (tmp_path / "presets").mkdir()
    monkeypatch.setattr(presets.resources, "files", lambda package: tmp_path)
    return tmp_path / "presets"


def test_a_data_set_has_its_own_entry_and_others_the_default(folder: Path) -> None:
    cora = {"model": {"step": 0.1}, "training": {"lr": 0.02}}
    (folder / "m.json").write_text(json.dumps({"default": {"model": {"step": 0.5}}, "cora": cora}))
    assert load_preset("m", "cora") == cora
    assert load_preset("m", "digits") == {"model": {"step": 0.5}, "training": {}}


def test_a_model_without_a_file_runs_with_its_own_defaults(folder: Path) -> None:
    assert load_preset("m", "cora") == {"model": {}, "training": {}}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ('{"cora": {}}', "neither 'digits' nor 'default'"),
        ("[]", "neither 'digits' nor 'default'"),
        ('{"default": {"modell": {}}}', "got {'modell': {}}"),
        ('{"default": {"model": 3}}', "expected"),
        ('{"default": 3}', "expected"),
    ],
)
def test_a_malformed_preset_is_an_error_that_names_the_file(folder: Path, text: str, complaint: str) -> None:
    (folder / "m.json").write_text(text)
    with pytest.raises(PresetError, match=r"m\.json") as error:
        load_preset("m", "digits")
    assert complaint in str(error.value)


def test_a_preset_can_be_changed_without_changing_the_next_one(folder: Path) -> None:
    (folder / "m.json").write_text('{"default": {"model": {}, "training": {}}}')
    load_preset("m", "cora")["model"]["step"] = 1
    assert load_preset("m", "cora")["model"] == {}


def test_every_packaged_preset_can_be_loaded() -> None:
    files = resources.files("contractive_gnn.bench") / "presets"
    for file in files.iterdir() if files.is_dir() else ():
        for dataset in ("cora", "digits", "unheard-of"):
            assert set(load_preset(file.name.removesuffix(".json"), dataset)) == {"model", "training"}


@pytest.mark.parametrize("student", ["robust-distilled", "certified-distilled"])
def test_a_packaged_teacher_has_its_own_models_preset(student: str) -> None:
    teacher = load_preset(student, "unheard-of")["training"]["teacher"]
    assert teacher == {"name": teacher["name"], **load_preset(teacher["name"], "unheard-of")}
