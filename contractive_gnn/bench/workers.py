"""Run jobs one after another here, or in several processes, and hand on what they report as they report it."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Protocol, TypeVar

import torch

from contractive_gnn import plugins
from contractive_gnn.bench import quiet_dependencies

Message = TypeVar("Message")
MessageOut = TypeVar("MessageOut", covariant=True)


class Job(Protocol[MessageOut]):
    """Something picklable that reports on its progress."""

    def run(self) -> Iterator[MessageOut]:
        """Do the work and yield a message for each part of it."""

    def rest(self) -> Job[MessageOut]:
        """What is left of it once its first message has come; itself where it has one message only."""

    def died(self, reason: str) -> MessageOut:
        """The message for the case that the process which ran this job ended before the job did."""


class Executor(Protocol):
    """Somewhere else to run jobs, such as :class:`~contractive_gnn.bench.ray_tasks.RayTasks`."""

    def run(self, stages: Sequence[Sequence[Job[Message]]]) -> Generator[Message, None, None]:
        """Messages of all jobs, in the order in which they come. Closing the iterator stops what runs."""


_FINISHED = "finished"
#: how many threads a process takes, for the numerical libraries that read them when they are loaded
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_jobs(
    stages: Sequence[Sequence[Job[Message]]], *, processes: int = 1, executor: Executor | None = None
) -> Generator[Message, None, None]:
    """Messages of all jobs, in the order in which they come.

    Each job runs on one thread, so that its numbers do not depend on how many run beside it. With one process, or one
    job a stage, they run in this process. Closing the iterator stops the workers.

    Args:
        stages: what to do, begun in this order; a stage begins when the one before it is done.
        processes: number of processes on this machine, at least 1.
        executor: what runs the jobs in place of them.
    """
    if executor is not None:
        with contextlib.closing(executor.run(stages)) as elsewhere:
            yield from elsewhere
        return
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    processes = min(processes, max(map(len, stages), default=0))
    if processes <= 1:
        with single_thread():
            for stage in stages:
                for job in stage:
                    yield from job.run()
    else:
        with contextlib.closing(_Workers(stages, processes)) as workers:
            yield from workers


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """One thread of torch: the numbers of one process are then those of several, and none waits for another's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Workers(Generic[Message]):
    """Spawned processes (forking a process that has used torch can hang), each with a pipe of its own.

    A pipe of its own tells a worker that was killed (for want of memory, say) from one that is slow, and which job it
    had.
    """

    def __init__(self, stages: Sequence[Sequence[Job[Message]]], processes: int) -> None:
        self.stages = deque(deque(stage) for stage in stages)
        self.processes = processes
        self.idle: list[tuple[Connection, SpawnProcess]] = []
        # no job where its one message has come
        self.running: dict[Connection, tuple[SpawnProcess, Job[Message] | None]] = {}

    def __iter__(self) -> Iterator[Message]:
        while self.stages:
            self._hand_out()
            if not self.running:
                self.stages.popleft()
                continue
            for ready in multiprocessing.connection.wait(list(self.running)):
                assert isinstance(ready, Connection)
                process, job = self.running[ready]
                try:
                    message: Any = ready.recv()
                except (EOFError, ConnectionResetError):
                    del self.running[ready]
                    ready.close()
                    process.join()
                    if job is not None:
                        yield job.died(
                            f"the process that ran it ended with exit code {process.exitcode} "
                            "(a negative code is a signal; -9 is often the system, out of memory)"
                        )
                    continue
                if isinstance(message, str) and message == _FINISHED:
                    del self.running[ready]
                    self.idle.append((ready, process))
                else:
                    rest = None if job is None else job.rest()
                    self.running[ready] = process, None if rest is job else rest
                    yield message

    def _hand_out(self) -> None:
        waiting = self.stages[0]
        while waiting and len(self.running) < self.processes:
            connection, process = self.idle.pop() if self.idle else self._start()
            job = waiting.popleft()
            self.running[connection] = process, job
            with contextlib.suppress(BrokenPipeError):  # it died while idle: the next read finds that out
                connection.send(job)

    def _start(self) -> tuple[Connection, SpawnProcess]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, plugins.loaded()), daemon=True)
        before = {name: os.environ.get(name) for name in THREADS}
        # Read by the numerical libraries when the worker loads them, which is before any line of ours runs there.
        os.environ.update(dict.fromkeys(THREADS, "1"))
        try:
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        return ours, process

    def close(self) -> None:
        """Stop what still runs."""
        workers = [*self.idle, *((connection, process) for connection, (process, _) in self.running.items())]
        for _, process in workers:
            process.terminate()
        for connection, process in workers:
            process.join()
            connection.close()
        self.idle.clear()
        self.running.clear()


def _work(connection: Connection, expected: dict[str, str]) -> None:
    """The life of a worker: jobs come through the pipe, messages go back, and the end of the pipe is the end.

    ``expected`` are the plug-ins of the process that started it, which are imported before there is a job: it may be
    about a name that one of them registers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    quiet_dependencies()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    failure = ""
    try:
        plugins.load_plugins(expected)
    except plugins.PluginError as error:
        failure = str(error)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job: Job[Any] = connection.recv()
            for message in [job.died(failure)] if failure else job.run():
                connection.send(message)
            connection.send(_FINISHED)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the parent was killed: nobody is left to hear of the results
