"""Jobs as tasks of Ray: on one machine, or on all that a cluster has.

The results are those of one process: a task runs on one thread, seeds itself, and only the process that hands the tasks
out writes results. Every machine must see the same files (see :class:`RayTasks`), since a job reads data sets, plug-ins
and attacked graphs by their paths; the first task on a machine that does not ends the run with an error that names it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import torch

from contractive_gnn import plugins
from contractive_gnn.bench import quiet_dependencies
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.bench.workers import THREADS, Job
from contractive_gnn.extras import needs

Message = TypeVar("Message")

#: a job is given up when its process has been killed, or its machine gone away, so often at the same message
ATTEMPTS: Final = 4
#: seconds without any CPU in the cluster after which the run ends
PATIENCE: Final = 300.0
_ANSWER_S: Final = 10.0
_LOOK_S: Final = 2.0
_STORE_BYTES: Final = 200 * 2**20  # messages are small; Ray would take a third of the memory


class ClusterError(RuntimeError):
    """A run that cannot begin or go on; the text says why and what to do. What was measured is kept."""


@dataclass(frozen=True)
class RayTasks:
    """Runs jobs as tasks of Ray; one of :class:`~contractive_gnn.bench.workers.Executor`.

    A job whose worker process is killed, or whose machine goes away, is begun again with what is left of it, until that
    has happened :data:`ATTEMPTS` times at the same message.

    Attributes:
        folder: of the results. Every machine of the cluster must see it and the current folder under the same paths.
        address: of a running cluster, HOST:PORT, or "auto" for the one of this machine. If None, one is started on this
            machine and ends with the jobs.
        at_once: tasks at the same time; if None, as many as the cluster has CPUs at the moment.
    """

    folder: Path
    address: str | None = None
    at_once: int | None = None

    def run(self, stages: Sequence[Sequence[Job[Message]]]) -> Generator[Message, None, None]:
        """Messages of all jobs, in the order in which they come; a stage begins when the one before it is done.

        Raises:
            MissingExtraError: Ray is not installed.
            ClusterError: the cluster does not answer, has another version, sees other files, or has no CPU left.
        """
        if not any(stages):
            return
        with _cluster(self.address, self.at_once) as ray, _seen_by_all(self.folder) as token:
            origin = _Origin(Path.cwd(), token, _software(), plugins.loaded())
            tasks: _Tasks[Message] = _Tasks(ray, origin, self.at_once)
            for stage in stages:  # what still runs when this ends is ended with the connection
                yield from tasks.run(stage)


@dataclass(frozen=True)
class _Origin:
    """The process that hands tasks out, as a worker must find it to give the same numbers.

    Attributes:
        folder: its current one.
        token: a file beside the results.
        software: see :func:`_software`.
        plugins: see :func:`contractive_gnn.plugins.loaded`.
    """

    folder: Path
    token: Path
    software: Mapping[str, str | None]
    plugins: Mapping[str, str]

    def enter(self) -> None:
        """Make this process like it, or raise ClusterError."""
        quiet_dependencies()
        torch.set_num_threads(1)
        here = f"the machine {platform.node()}"
        if not (self.token.exists() and self.folder.is_dir()):
            raise ClusterError(
                f"{here} does not see {self.token.parent} or {self.folder}; --executor ray needs the folder of the "
                "results (--out) and the current one on a file system that all machines share"
            )
        os.chdir(self.folder)  # relative paths are relative to it
        try:
            plugins.load_plugins(self.plugins)
        except plugins.PluginError as error:
            raise ClusterError(f"{here}: {error}") from None
        there = _software()
        differing = [name for name in self.software if self.software[name] != there.get(name)]
        if differing:
            name = differing[0]
            raise ClusterError(
                f"{here} has {name} {there.get(name)}, and {self.software[name]} was there where and when the run was "
                "started; the numbers of one run need the same versions everywhere"
            )


def _software() -> dict[str, str | None]:
    """What every machine must have: the commit of a checkout, and the versions that the results name."""
    return {"commit": current_commit()[0], **current_versions()}


def _work(job: bytes, origin: _Origin) -> Iterator[Any]:
    """A task. The job is unpacked here and not by Ray, since a plug-in may define what it is made of."""
    origin.enter()
    yield from pickle.loads(job).run()


@dataclass
class _Begun(Generic[Message]):
    """A job, or what is left of it, and how often its process has ended since its last message.

    Attributes:
        told: whether it has one message only, and that has come: it is not begun again.
    """

    job: Job[Message]
    deaths: int = 0
    told: bool = False


class _Tasks(Generic[Message]):
    """Jobs that wait and jobs that run."""

    def __init__(self, ray: Any, origin: _Origin, at_once: int | None) -> None:
        self.ray = ray
        self.at_once = at_once
        self.origin = ray.put(origin)
        variables = {name: value for name, value in os.environ.items() if name.startswith("CONTRACTIVE_GNN_")}
        # Not Ray's own retries: they begin a job from its start, and tell all its messages again.
        self.task = ray.remote(_work).options(
            num_cpus=1,
            num_returns="streaming",
            max_retries=0,
            runtime_env={"env_vars": {**variables, **dict.fromkeys(THREADS, "1")}},
        )
        self.running: dict[Any, _Begun[Message]] = {}

    def run(self, jobs: Sequence[Job[Message]]) -> Iterator[Message]:
        waiting = deque(_Begun(job) for job in jobs)
        last_cpu = time.monotonic()
        while waiting or self.running:
            cpus = int(self.ray.cluster_resources().get("CPU", 0))
            if cpus:
                last_cpu = time.monotonic()
            elif time.monotonic() - last_cpu > PATIENCE:
                raise ClusterError(
                    f"the cluster has had no CPU for {PATIENCE:.0f} s, and {len(waiting) + len(self.running)} jobs are "
                    "left; start a machine with CPUs, and the same command goes on"
                )
            while waiting and len(self.running) < (self.at_once or max(cpus, 1)):
                self._begin(waiting.popleft())
            ready, _ = self.ray.wait(list(self.running), timeout=_LOOK_S)
            for stream in ready:
                begun = self.running[stream]
                try:
                    message = self.ray.get(next(stream))
                except StopIteration:
                    del self.running[stream]
                except self.ray.exceptions.RayTaskError as error:  # not of a job, which tells its own errors
                    cause = error.cause
                    raise ClusterError(
                        str(cause) if isinstance(cause, ClusterError) else f"a task failed: {cause}"
                    ) from error
                except self.ray.exceptions.RayError as error:
                    del self.running[stream]
                    if begun.told:
                        continue
                    begun.deaths += 1
                    if begun.deaths < ATTEMPTS:
                        waiting.appendleft(begun)
                    else:
                        yield begun.job.died(f"its process ended {ATTEMPTS} times, at last with {_words(error)}")
                else:
                    rest = begun.job.rest()
                    begun.job, begun.deaths, begun.told = rest, 0, rest is begun.job
                    yield message

    def _begin(self, begun: _Begun[Message]) -> None:
        job = self.ray.cloudpickle.dumps(begun.job)
        self.running[self.task.remote(job, self.origin)] = begun


def _words(error: Exception) -> str:
    """An error of Ray in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextlib.contextmanager
def _seen_by_all(folder: Path) -> Iterator[Path]:
    """A file in the folder, by which a worker knows that it sees the same one."""
    with tempfile.NamedTemporaryFile(dir=folder.resolve(), prefix=".ray-") as token:
        yield Path(token.name)


@contextlib.contextmanager
def _cluster(address: str | None, at_once: int | None) -> Iterator[Any]:
    """Ray, connected; to a cluster of its own, which ends with this, where no address is given."""
    if address is not None:
        _check_answers(address)
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # of 40 s each, where something else than Ray answers
    with needs("ray", "--executor ray"):
        import ray
    if ray.is_initialized():
        raise ClusterError("this process is connected to a Ray cluster already; call ray.shutdown() first")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless it is asked for
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    interrupted = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            own = {"num_cpus": at_once, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
            ray.init(address="local", **own, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:
        raise ClusterError(f"no Ray cluster at {address or 'this machine'}: {' '.join(str(error).split())}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, interrupted)  # Ray takes it, and ends the process without a word
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Whether something listens there: Ray itself would try for minutes.

    Raises:
        ClusterError: nothing does, or it is no address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 1 << 16) or "/" in host:
        raise ClusterError(
            f"--address {address}: expected HOST:PORT as Ray prints it where its head starts, or auto; the command "
            "runs on a machine of the cluster"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ClusterError(f"--address {address}: nothing answers there ({error}); is the cluster running?") from error
