"""What is installed: the declared packages, the built wheel, and its peace with Hugging Face's `datasets`."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

# Python 3.10 has no tomllib; there pytest brings tomli.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

# Installed package → folder of the repository, as in pyproject.toml's package-dir.
FOLDERS = {
    "contractive_gnn": "contractive_gnn",
    "contractive_gnn.attacks": "attacks",
    "contractive_gnn.datasets": "datasets",
}
# What pip prints when no index answered; anything else it prints is a failure of the installation.
UNREACHABLE = re.compile(
    r"after connection broken by '(?:\w+\.)*"
    r"(NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|ProtocolError)"
)


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def pip_install(*arguments: str, target: Path) -> subprocess.CompletedProcess[str]:
    options = ("--no-deps", "--no-compile", "--retries", "1", "--target", str(target))
    return run(sys.executable, "-m", "pip", "install", *options, *arguments, cwd=target.parent)


def source_files(repository: Path) -> dict[str, Path]:
    """Every file that the wheel must have, by its path there: all that lies in the three folders."""
    return {
        (Path(package.replace(".", "/")) / path.relative_to(repository / folder)).as_posix(): path
        for package, folder in FOLDERS.items()
        for path in (repository / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def pyproject(repository: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    return parsed


@pytest.fixture(scope="module")
def snapshot(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that a build neither meets an old build folder nor leaves one."""
    copy = tmp_path_factory.mktemp("snapshot") / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(repository / name, copy)
    for name in (*FOLDERS.values(), "tests", "examples"):
        if (repository / name).is_dir():
            shutil.copytree(repository / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(snapshot: Path) -> Path:
    """The wheel, built from the source distribution, as an installation from a package index would be."""
    built = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", cwd=snapshot)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (snapshot / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed") / "site"
    ours = pip_install("--no-index", str(wheel), target=target)
    assert ours.returncode == 0, ours.stdout + ours.stderr
    return target


def test_declared_packages_are_those_on_disk(repository: Path, pyproject: dict[str, Any]) -> None:
    on_disk = {
        ".".join([package, *path.parent.relative_to(repository / folder).parts])
        for package, folder in FOLDERS.items()
        for path in (repository / folder).rglob("__init__.py")
    }
    assert sorted(pyproject["tool"]["setuptools"]["packages"]) == sorted(on_disk)
    assert pyproject["tool"]["setuptools"]["package-dir"] == FOLDERS


def test_datasets_refuses_another_name(repository: Path) -> None:
    other = run(sys.executable, "-c", "import datasets", cwd=repository)
    assert other.returncode == 1
    assert "this folder is the package contractive_gnn.datasets, but it was imported as 'datasets'" in other.stderr


def test_wheel_has_every_file_of_the_three_folders_and_nothing_else(snapshot: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    expected = source_files(snapshot)
    assert sorted(content) == sorted(expected)
    assert all(content[name] == path.read_bytes() for name, path in expected.items())
    assert {"contractive_gnn/py.typed", "contractive_gnn/datasets/manifest.json"} <= set(content)
    assert any(name.endswith(".safetensors") for name in content)
    assert {name.split("/")[0] for name in content} == {"contractive_gnn"}
    assert "License-Expression: MIT" in metadata


def test_the_source_distribution_has_what_a_build_needs_and_nothing_else(
    repository: Path, snapshot: Path, wheel: Path
) -> None:
    (path,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    ours = {file.relative_to(snapshot).as_posix() for file in source_files(snapshot).values()}
    written = {"PKG-INFO", "setup.cfg"}  # by setuptools
    about = {"pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"}
    assert {name for name in files if ".egg-info/" not in name} == ours | written | about


def test_wheel_works_without_the_repository(installed: Path) -> None:
    code = """
import json, pathlib
import contractive_gnn.attacks, contractive_gnn.datasets
from contractive_gnn.datasets import fetch, load
print(json.dumps([
    contractive_gnn.__file__, contractive_gnn.attacks.__file__, contractive_gnn.datasets.__file__,
    load("csbm").num_nodes, len(fetch.manifest()),
]))
"""
    ran = run(sys.executable, "-c", code, cwd=installed.parent, PYTHONPATH=str(installed))
    assert ran.returncode == 0, ran.stderr
    *files, nodes, entries = json.loads(ran.stdout)
    assert [Path(file) for file in files] == [
        installed / f"contractive_gnn/{name}__init__.py" for name in ("", "attacks/", "datasets/")
    ]
    assert (nodes, entries) == (1000, 58)


def test_hugging_faces_datasets_stays_its_own(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    theirs = pip_install("datasets", target=target)
    if theirs.returncode != 0 and (proof := UNREACHABLE.search(theirs.stderr + theirs.stdout)):
        pytest.skip(f"the package index could not be reached ({proof[1]}), so Hugging Face's datasets is not here")
    assert theirs.returncode == 0, theirs.stdout + theirs.stderr
    # --upgrade: pip then overwrites what is in its way, instead of leaving it alone.
    ours = pip_install("--no-index", "--upgrade", str(wheel), target=target)
    assert ours.returncode == 0, ours.stdout + ours.stderr

    # Every file of theirs is as they shipped it.
    (record,) = target.glob("datasets-*.dist-info/RECORD")
    with record.open(newline="", encoding="utf-8") as lines:
        digests = {path: digest for path, digest, _ in csv.reader(lines) if path.startswith("datasets/") and digest}
    assert len(digests) > 50
    for path, digest in digests.items():
        algorithm, expected = digest.split("=", 1)
        actual = hashlib.new(algorithm, (target / path).read_bytes()).digest()
        assert base64.urlsafe_b64encode(actual).rstrip(b"=").decode() == expected, path
    assert {path.relative_to(target).as_posix() for path in (target / "datasets").rglob("*.py")} <= set(digests)

    # `datasets` is theirs (found, not run: it was installed without its dependencies), and ours works beside it.
    code = """
import importlib.metadata, importlib.util, json
import contractive_gnn.attacks, contractive_gnn.datasets
print(json.dumps([
    importlib.util.find_spec("datasets").origin, importlib.metadata.metadata("datasets")["Author"],
    contractive_gnn.attacks.__file__, contractive_gnn.datasets.__file__,
]))
"""
    ran = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(target))
    assert ran.returncode == 0, ran.stderr
    origin, author, *files = json.loads(ran.stdout)
    assert Path(origin) == target / "datasets/__init__.py"
    assert "HuggingFace" in author
    assert [Path(file) for file in files] == [
        target / f"contractive_gnn/{name}/__init__.py" for name in ("attacks", "datasets")
    ]
