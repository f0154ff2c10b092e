"""Jobs on a real Ray cluster of two nodes, with worker processes of their own; skipped where Ray is not installed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from contractive_gnn.bench import own_models, ray_tasks, tune
from contractive_gnn.bench.own_models import OwnModel
from contractive_gnn.bench.protocol import Override, Protocol
from contractive_gnn.bench.ray_tasks import ClusterError, RayTasks
from contractive_gnn.bench.results import RESULTS, ResultsFile, read_results
from contractive_gnn.bench.runner import Failure, Message, Plan, execute, plan
from contractive_gnn.bench.spaces import Space
from contractive_gnn.bench.spec import parse_attacks

ray = pytest.importorskip("ray", reason="ray is not installed: no job runs in a cluster")

OWN = """
import os
import signal
import time
from pathlib import Path

import torch



class Fragile(torch.nn.Module):
    '''Kills its process when it is built there the second time, if there is a file to say so.'''

    built = 0

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.linear = torch.nn.Linear(in_channels, out_channels)
        type(self).built += 1
        if type(self).built > 1 and self.killed():
            os.kill(os.getpid(), signal.SIGKILL)

    def killed(self):
        found = Path("once").exists()
        Path("once").unlink(missing_ok=True)
        return found

    def forward(self, x, edge_index, edge_weight=None):
        return self.linear(x)


class Doomed(Fragile):
    def killed(self):
        return Path("always").exists()


class Placed(Fragile):
    '''Says on which node it is trained; hangs on the one that a file names, and elsewhere until it is at work there.'''

    def forward(self, x, edge_index, edge_weight=None):
        import ray

        if self.training and ray.is_initialized():
            node, hanging = ray.get_runtime_context().get_node_id(), Path("hang").read_text()
            Path(f"at-work-{node}").touch()
            while node == hanging or not Path(f"at-work-{hanging}").exists():
                time.sleep(0.05)
        return super().forward(x, edge_index, edge_weight)
"""


@pytest.fixture(autouse=True)
def no_own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process forgets them again."""
    monkeypatch.setattr(own_models, "_own", {})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node, started in another folder than that of the runs."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("/")
        made = Cluster(initialize_head=True, head_node_args=_SMALL)
        made.second = made.add_node(**_SMALL)
    yield made
    made.shutdown()


_SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


def protocol(folder: Path, models: Sequence[str], *, seeds: int = 1) -> Protocol:
    """Quick: the embedded block model and a few epochs; a graph that is made once for all, and two trainings a seed."""
    (folder / "own.py").write_text(OWN)
    own = [OwnModel.parse(f"{folder / 'own.py'}:{name}") for name in models if name.istitle()]
    return Protocol(
        dataset="csbm",
        models=tuple(f"own.py:{name}" if name.istitle() else name for name in models),
        attacks=parse_attacks("clean,random:0.5", dataset="csbm"),
        seeds=tuple(range(seeds)),
        overrides=(Override.parse("training.epochs=5"),),
        own_models=tuple(own),
    )


def run(
    asked: Protocol, out: Path, executor: RayTasks | None = None, *, first: Callable[[Plan], None] | None = None
) -> list[Message]:
    with ResultsFile(out / RESULTS) as results:
        todo = plan(asked, out=out, finished=results.finished)
        if first is not None:
            first(todo)
        return list(execute(todo, results, executor=executor))


def numbers(out: Path) -> dict[Any, dict[str, Any]]:
    """What was measured, without what depends on the clock; each cell once."""
    results = read_results(out / RESULTS)
    assert len({result.key for result in results}) == len(results)
    return {result.key: {**asdict(result), "train_s": 0, "attack_s": 0} for result in results}


def test_a_job_whose_worker_is_killed_goes_on_where_it_was(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_tasks, "ATTEMPTS", 2)
    asked = protocol(tmp_path, ["gcn", "Fragile", "Doomed"])
    run(asked, Path("serial"))
    assert len(numbers(Path("serial"))) == 6

    def kill(_: Plan) -> None:
        Path("once").touch()
        Path("always").touch()

    messages = run(asked, Path("ray"), RayTasks(Path("ray"), cluster.address), first=kill)
    assert not Path("once").exists()
    (failure,) = [message for message in messages if isinstance(message, Failure)]
    assert (failure.what, failure.cells) == ("own.py:Doomed, seed 0", 1)
    assert "ended 2 times" in failure.reason
    Path("always").unlink()
    run(asked, Path("ray"))  # the one that is missing
    assert numbers(Path("ray")) == numbers(Path("serial"))
    assert not list(Path("ray").glob(".ray-*"))


def test_a_job_of_one_message_whose_worker_is_killed_after_it_is_done(cluster: Any, tmp_path: Path) -> None:
    class Once:
        def run(self) -> Iterator[str]:
            yield "told"
            time.sleep(0.3)  # the message is out
            os.kill(os.getpid(), signal.SIGKILL)

        def rest(self) -> Once:
            return self

        def died(self, reason: str) -> str:
            return reason

    jobs: list[Once] = [Once()]
    assert list(itertools.islice(RayTasks(tmp_path, cluster.address).run([jobs]), 3)) == ["told"]


def test_jobs_of_a_node_that_goes_away_are_done_by_the_other(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = protocol(tmp_path, ["Placed", "mlp"], seeds=2)
    lost = cluster.second.node_id

    def remove() -> None:
        while not Path(f"at-work-{lost}").exists():
            time.sleep(0.1)
        cluster.remove_node(cluster.second, allow_graceful=False)

    Path("hang").write_text(lost)
    remover = threading.Thread(target=remove, daemon=True)
    messages = run(asked, Path("ray"), RayTasks(Path("ray"), cluster.address), first=lambda _: remover.start())
    remover.join(timeout=60)
    assert not [message for message in messages if isinstance(message, Failure)]
    assert len(list(Path().glob("at-work-*"))) == 2
    run(asked, Path("serial"))
    assert numbers(Path("ray")) == numbers(Path("serial"))


def test_a_machine_that_does_not_see_the_folder_ends_the_run_with_a_word(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = contextlib.nullcontext(tmp_path / "on another disk")
    monkeypatch.setattr(ray_tasks, "_seen_by_all", lambda folder: elsewhere)
    with pytest.raises(ClusterError, match=r"does not see .* on a file system that all machines share"):
        run(protocol(tmp_path, ["mlp"]), tmp_path / "run", RayTasks(tmp_path / "run", cluster.address))


def test_other_versions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    with pytest.raises(ClusterError, match=r"has torch .*, and 0\.1 was there where and when the run"):
        ray_tasks._Origin(Path.cwd(), tmp_path / "token", {"torch": "0.1"}, {}).enter()


def test_a_search_draws_and_measures_the_same(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(
        json.dumps({"model": {"hidden_channels": [4, 8]}, "training": {"lr": {"low": 0.01, "high": 0.1}, "epochs": 3}})
    )
    asked = Protocol("csbm", ("gcn",), parse_attacks("clean,random:0.5", dataset="csbm"), seeds=(0,))
    found = {}
    for name, executor in {"serial": None, "ray": RayTasks(tmp_path / "ray", cluster.address, 1)}.items():
        search = tune.Search(asked, Space.read(tmp_path / "space.json", "gcn"), tmp_path / name)
        graphs, tasks = search.prepare()
        with tune.Record(search) as record:
            list(tune.execute(record, graphs, tasks, trials=3, executor=executor))
        found[name] = [{**asdict(trial), "seconds": 0} for trial in record.trials]
    assert len(found["ray"]) == 3
    assert found["ray"] == found["serial"]


PLUGIN = """
import time

from contractive_gnn.nn import MLP, register


@register("hesitant")
class Hesitant(MLP):
    def forward(self, *given):
        while self.training:
            time.sleep(0.05)
        return super().forward(*given)
"""


def test_ctrl_c_on_the_command_line_leaves_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    command = [sys.executable, "-m", "contractive_gnn", "bench", "--dataset", "csbm", "--models", "mlp,hesitant"]
    command += ["--attacks", "clean", "--seeds", "1", "--set", "training.epochs=3", "--plugin", "plugin.py"]
    command += ["--executor", "ray", "--jobs", "2", "--out", "run"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as running:
        results = tmp_path / "run" / RESULTS
        while not (results.exists() and results.read_text()):
            assert running.poll() is None
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "Stopped. 1 numbers are kept in run" in told
    assert "--executor ray --out run" in told


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        *((address, "expected HOST:PORT") for address in ("ray://127.0.0.1:10001", "here", "here:70000", "here:²")),
        (None, "nothing answers there"),
    ],
)
def test_an_address_without_a_cluster_is_told(tmp_path: Path, address: str | None, complaint: str) -> None:
    with socket.socket() as closed:  # bound, so that nobody else has the port, and not listening
        closed.bind(("127.0.0.1", 0))
        address = address or f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ClusterError, match=complaint):
            run(protocol(tmp_path, ["mlp"]), tmp_path / "run", RayTasks(tmp_path / "run", address))
