"""The command line. PyTorch is imported inside the commands only, so that ``--help`` answers at once."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import contractive_gnn
from contractive_gnn.bench import quiet_dependencies
from contractive_gnn.checks import check_real, check_whole

if TYPE_CHECKING:
    from contractive_gnn.bench.own_graph import OwnGraph
    from contractive_gnn.bench.own_models import OwnModel
    from contractive_gnn.bench.presets import Preset
    from contractive_gnn.bench.protocol import Protocol
    from contractive_gnn.bench.ray_tasks import RayTasks
    from contractive_gnn.bench.runner import Failure, GraphJob
    from contractive_gnn.bench.verify import Died
    from contractive_gnn.testing import Verdict

#: what `bench` runs when it is asked for nothing in particular
MODELS = "gcn,csgnn,linf-diffusion"
EMBEDDED_ATTACKS = (
    "clean,random:0.5,dice:0.2,pgd:0.1,nettack:20@evasion,nettack-features:10,whitebox-pgd:0.05,whitebox-pgd:0.1"
)
#: on a graph of one's own, whose features need not be binary
OWN_ATTACKS = "clean,random:0.5,dice:0.2,pgd:0.1,whitebox-pgd:0.05"
#: of an inductive split, under which only evasion is measured
INDUCTIVE_ATTACKS = "clean,prbcd:0.05,prbcd:0.1,prbcd:0.2,lrbcd:0.05,lrbcd:0.1,lrbcd:0.2"
#: with them a first look takes a minute; they stand in the command that the report shows, and --set goes over them
QUICK = (
    "training.epochs=60",
    "pgd.attack.epochs=20",
    "whitebox-pgd.attack.epochs=20",
    "whitebox-pgd.attack.fine_epochs=5",
    "whitebox-pgd.attack.samples=3",
    "whitebox-pgd.attack.swaps=5",
)
QUICK_TARGETS = 10
TARGETS = 20
#: what `explain` does to a node when it is asked for nothing in particular: needs no other package
EXPLAINED_ATTACK = "prbcd:10flips"
PUBLISHED_ATTACKS = (
    "clean,metattack:0.05,metattack:0.1,metattack:0.15,metattack:0.2,metattack:0.25,nettack:1,nettack:3,nettack:5"
)
#: the data sets that a command takes where none is named
EMBEDDED = ("digits", "csbm")
MOST_JOBS = 8

#: how often a long command says how far it is, where there is no terminal to draw a bar on
SECONDS_BETWEEN_LINES = 60.0
INSTALL_ATTACKS = "pip install 'contractive-gnn[attacks]'"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Adversarially robust graph neural networks from contractive ODEs: benchmark, attack and report.",
)

Dataset = Annotated[str, typer.Option(help="Name of a data set; `contractive-gnn datasets` lists them.")]
GraphFile = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="A graph of your own, in place of --dataset: .npz, .pt, .mat, .graphml or a list of edges.",
    ),
]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Labels beside a --data file without them: .npy, or one a line.")
]
Features = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Features beside a --data file without them: .npy, or .npz of scipy.sparse."),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="prognn (published, fixed), random, or inductive: test nodes that are absent in the training; random for "
        "digits and csbm if not given. Of --data: own, random, public, inductive, or N, the number of one of its own; "
        "own where it has masks, else random, if not given.",
    ),
]
SplitSeed = Annotated[int, typer.Option(help="Seed of a random split.")]
Root = Annotated[Path | None, typer.Option(help="Folder with the data, looked into before the usual places.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A hyperparameter over the preset: training.epochs=50, csgnn.model.step=0.1, pgd.attack.epochs=20. "
        "May be given again and again.",
    ),
]
Presets = Annotated[
    list[str] | None,
    typer.Option(
        "--preset",
        metavar="MODEL=FILE.json",
        help="Hyperparameters of a model from a file, as `tune` writes it, in place of the packaged ones. "
        "May be given again and again.",
    ),
]
Targets = Annotated[
    str | None,
    typer.Option(
        help="Number of targets of a live targeted attack; 20 if not given, 10 in a first look. Or by bins: degree:40, "
        "margin:40 or balanced:40."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where models are trained and attacked, as torch names it: cpu, cuda, cuda:1. On a GPU two runs differ "
        "in the last bits, since it sums in no fixed order."
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py|MODULE",
        help="Code of yours that registers dynamics, models, attacks or datasets; may be given again and again.",
    ),
]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor",
        help="What runs the jobs: processes of this machine, or ray: tasks of a Ray cluster whose machines share the "
        "folder of the results.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="A Ray cluster that runs, or auto for the one of this machine; $RAY_ADDRESS if not given. Without either, "
        "one is started here, and ends with the run.",
        show_default=False,
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")]
SpecHelp = (
    r"NAME[:BUDGET]\[@evasion|@poisoning|@symbiotic]. BUDGET: a fraction with a decimal point (0.05) or 50flips for a "
    "global attack, a whole number per target (5) or a fraction of its degree (0.5) for a targeted one; 60x20 to add "
    "60 nodes of 20 edges, 30nodes to delete. A:BUDGET+B:BUDGET: B on the graph that A left. "
    "FILE.npz: a graph that `attack` saved; FILE.npz:NAME: the one for the model NAME in a file of perturbations."
)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    """Options of the program itself."""
    if version:
        typer.echo(contractive_gnn.__version__)
        raise typer.Exit


@app.command()
def bench(
    dataset: Dataset = "digits",
    data: GraphFile = None,
    labels: Labels = None,
    features: Features = None,
    models: Annotated[
        str | None,
        typer.Option(
            help=f"Comma-separated names of models, or FILE.py:NAME for one of your own; {MODELS} if neither it nor "
            "--model is given."
        ),
    ] = None,
    own_models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="FILE.py:NAME",
            help="A model of your own, NAME(in_channels, out_channels, …), beside --models. May be given again.",
        ),
    ] = None,
    attacks: Annotated[
        str | None,
        typer.Option(help=f"Comma-separated attacks, each {SpecHelp} Default: what suits the data set."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1, …")] = 2,
    first_seed: Annotated[int, typer.Option(help="The first of them, for one seed a command in a batch queue.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            help=f"Processes; one a core, at most {MOST_JOBS}, if not given. With --address, tasks at the same time; "
            "one a CPU of the cluster, if not given."
        ),
    ] = None,
    executor: ExecutorName = "processes",
    address: Address = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results, where a stopped run resumes; runs/DATASET if not given."),
    ] = None,
    split: Split = None,
    split_seed: Annotated[int | None, typer.Option(help="Seed of a random split; 0 if not given.")] = None,
    splits: Annotated[
        int | None,
        typer.Option(
            help="Several splits in one table: of the seeds 0, 1, …, or so many of the own ones of --data; random if "
            "--split is not given."
        ),
    ] = None,
    attack_seed: Annotated[
        int, typer.Option(help="Seed of the attacks and of the choice of targets; every model sees the same graph.")
    ] = 0,
    targets: Targets = None,
    presets: Presets = None,
    overrides: Overrides = None,
    anchors: Annotated[
        Path | None,
        typer.Option(
            help="CSV of published numbers to show beside (dataset, attack, budget, model, accuracy, std, source)."
        ),
    ] = None,
    device: Device = "cpu",
    plugins: Plugins = None,
    root: Root = None,
    debug: Debug = False,
) -> None:
    """Train models, attack them and report how they hold.

    Without options it is a first look: embedded data, no network, few epochs, under two minutes.
    """
    with _errors_in_one_line(debug):
        _use(plugins)
        _at_least(1, seeds=seeds, jobs=jobs, splits=splits)
        check_whole("--first-seed", first_seed, least=0, below=2**32)
        if splits is not None:
            _no_other_split(splits, split, split_seed)
            split = split or (None if data is not None else "random")
        if anchors is not None:
            from contractive_gnn.bench.summary import read_anchors

            read_anchors(anchors)  # now, and not after all that has to be measured
        names = [] if models is None else [models]
        protocol = _protocol(
            dataset=dataset, data=data, labels=labels, features=features,
            models=",".join([*names, *(own_models or ())]) if names or own_models else MODELS,
            attacks=attacks, seeds=seeds, first_seed=first_seed, split=split, split_seed=split_seed or 0,
            attack_seed=attack_seed, targets=targets, presets=presets, overrides=overrides, root=root,
            device=device,
        )  # fmt: skip
        out = out if out is not None else Path("runs") / protocol.dataset
        ray = _ray(executor, address, jobs=jobs, out=out, device=device)
        command = _command(
            protocol, presets=presets, plugins=plugins, jobs=jobs, executor=executor, address=address, anchors=anchors,
            out=out, splits=splits,
        )  # fmt: skip
        n_results, failures = _bench(protocol, out=out, jobs=jobs, ray=ray, command=command, splits=splits)
        if n_results:
            _report(out, anchors)
        if failures:
            _say(f"[bold red]{sum(failure.cells for failure in failures)} number(s) are missing:[/]")
            for failure in failures:
                _say(f"  {failure.what}: {failure.reason}", markup=False)
            _say(
                f"Tracebacks are in {out / 'errors.log'}; the same command tries the missing ones again.", markup=False
            )
            raise typer.Exit(1)


@app.command()
def tune(
    model: Annotated[
        str, typer.Option(help="Name of the model, or FILE.py:NAME for one of your own.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the search, where a stopped one resumes.", show_default=False)],
    dataset: Dataset = "digits",
    data: GraphFile = None,
    labels: Labels = None,
    features: Features = None,
    attacks: Annotated[
        str,
        typer.Option(
            help="Comma-separated graphs to train on: clean, and poisoning attacks as for `bench`, like metattack:0.25."
        ),
    ] = "clean",
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help='Where to search: {"model": {"mu": {"low": 0.01, "high": 1, "log": true}, "hidden_channels": '
            '[32, 64]}, "training": {…}}. Default: the packaged space of the model.',
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Settings to try in all; those of earlier runs count.")] = 50,
    seeds: Annotated[int, typer.Option(help="Number of seeds of each training: 0, 1, …")] = 2,
    sampler_seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="Give a setting up that is below the median after some of its trainings.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(help="Trials at the same time. With more than one, the draws depend on which ends first.")
    ] = 1,
    executor: ExecutorName = "processes",
    address: Address = None,
    split: Split = None,
    split_seed: SplitSeed = 0,
    attack_seed: Annotated[int, typer.Option(help="Seed of the attacks that are made here.")] = 0,
    device: Device = "cpu",
    plugins: Plugins = None,
    root: Root = None,
    debug: Debug = False,
) -> None:
    """Search hyperparameters of a model by its accuracy on the validation nodes; no test label is looked at."""
    with _errors_in_one_line(debug):
        _use(plugins)
        _at_least(1, trials=trials, seeds=seeds, jobs=jobs)
        check_whole("--sampler-seed", sampler_seed, least=0, below=2**32)
        protocol = _protocol(
            dataset=dataset, data=data, labels=labels, features=features, models=model, attacks=attacks,
            seeds=seeds, split=split, split_seed=split_seed, attack_seed=attack_seed, root=root, device=device,
        )  # fmt: skip
        from contractive_gnn.bench.runner import Failure
        from contractive_gnn.bench.spaces import Space
        from contractive_gnn.bench.tune import PRESET, STUDY, TRIALS, Record, Search, table
        from contractive_gnn.bench.tune import execute as search_for

        ray = _ray(executor, address, jobs=jobs, out=out, device=device)
        search = Search(protocol, Space.read(space, model), out, sampler_seed=sampler_seed, prune=prune)
        graphs, tasks = search.prepare()
        _say_what_is_damaged(graphs)
        lost: list[Failure] = []
        with Record(search) as record:
            if record.trials:
                _say(f"{len(record.trials)} trials are in {out} already.", markup=False)
            left = max(0, trials - len(record.trials))
            try:
                with (
                    _sigterm_is_ctrl_c(),
                    _bar("searching", total=left) as step,
                    contextlib.closing(
                        search_for(record, graphs, tasks, trials=trials, processes=jobs, executor=ray)
                    ) as messages,
                ):
                    for message in messages:
                        step(1)
                        if isinstance(message, Failure):
                            lost.append(message)
            except KeyboardInterrupt:
                record.write()
                _say(
                    f"\nStopped. {len(record.trials)} trials are kept in {out}; the same command goes on.",
                    markup=False,
                )
                raise typer.Exit(130) from None
        for failure in lost:
            _say(f"{failure.what}: {failure.reason}", markup=False)
        failed = [trial for trial in record.trials if trial.state == "failed"]
        if failed:
            _say(f"{len(failed)} trials failed; the last, {failed[-1].number}: {failed[-1].reason}", markup=False)
        if record.best is None:
            raise RuntimeError(f"no trial is complete; {out / TRIALS} says why")
        _wide_console().print(table(record.trials, record.search.space))
        typer.echo(f"Written: {out / PRESET}, {out / TRIALS}, {out / STUDY}")
        measure = _command(
            protocol, presets=[f"{model}={out / PRESET}"], plugins=plugins, jobs=None, anchors=None, out=out / "bench"
        )
        typer.echo(f"On the test nodes: {measure}")
        if lost:
            raise typer.Exit(1)


@app.command()
def attack(
    attack: Annotated[str, typer.Option(help=SpecHelp, show_default=False)],
    out: Annotated[Path, typer.Option(help="The attacked graph is written to this .npz file.", show_default=False)],
    dataset: Dataset = "digits",
    data: GraphFile = None,
    labels: Labels = None,
    features: Features = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model to train on the clean graph and attack, or FILE.py:NAME for one of your own; needed by "
            "white-box attacks only."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the attack, of the choice of targets and of the model.")] = 0,
    split: Split = None,
    split_seed: SplitSeed = 0,
    targets: Targets = None,
    presets: Presets = None,
    overrides: Overrides = None,
    device: Device = "cpu",
    plugins: Plugins = None,
    root: Root = None,
    debug: Debug = False,
) -> None:
    """Attack one graph and save it (AttackResult.load reads it again)."""
    with _errors_in_one_line(debug):
        from contractive_gnn.bench.results import check_folder

        if out.suffix != ".npz":
            raise ValueError(f"--out: expected a file name that ends in .npz, got {str(out)!r}")
        check_whole("--seed", seed, least=0, below=2**32)
        check_folder(out.parent)
        _use(plugins)
        protocol = _protocol(
            dataset=dataset, data=data, labels=labels, features=features, models=model or "", attacks=attack, seeds=1,
            split=split, split_seed=split_seed, attack_seed=seed, targets=targets, presets=presets,
            overrides=overrides, root=root, device=device,
        )  # fmt: skip
        from contractive_gnn.bench.runner import attack_once

        result, effect = attack_once(protocol, seed=seed, on_note=lambda note: _say(note, markup=False))
        result.save(out)
        typer.echo(f"{protocol.attacks[0]}: {result.n_flips} flips in {result.seconds:.1f} s, saved to {out}")
        if effect is not None:
            typer.echo(
                f"{model}, trained on the clean graph and frozen, on the {effect.evaluated_on}"
                f"{' nodes' if effect.evaluated_on == 'test' else ''}: "
                f"{effect.clean_accuracy:.1f} % before, {effect.accuracy:.1f} % after"
            )


@app.command()
def explain(
    node: Annotated[int, typer.Option(help="Index of the node, from 0.", show_default=False)],
    dataset: Dataset = "digits",
    data: GraphFile = None,
    labels: Labels = None,
    features: Features = None,
    model: Annotated[str, typer.Option(help="The model to train and attack, by its name or as FILE.py:NAME.")] = "gcn",
    attack: Annotated[
        str, typer.Option(help=f"{SpecHelp} clean: no attack. One that is made here aims at the node.")
    ] = EXPLAINED_ATTACK,
    hops: Annotated[int, typer.Option(help="How far from the node to draw.")] = 2,
    most: Annotated[int, typer.Option(help="How many nodes to draw, the nearest first.")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of the attack and of the model.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the picture and the page; runs/explain-DATASET if not given.")
    ] = None,
    split: Split = None,
    split_seed: SplitSeed = 0,
    presets: Presets = None,
    overrides: Overrides = None,
    device: Device = "cpu",
    plugins: Plugins = None,
    root: Root = None,
    debug: Debug = False,
) -> None:
    """Show one node before and after an attack: its neighbourhood, its prediction, its certified radius."""
    with _errors_in_one_line(debug):
        from contractive_gnn.bench.results import check_folder

        _at_least(0, node=node)
        _at_least(1, hops=hops, most=most)
        check_whole("--seed", seed, least=0, below=2**32)
        _use(plugins)
        protocol = _protocol(
            dataset=dataset, data=data, labels=labels, features=features, models=model, attacks=attack, seeds=1,
            split=split, split_seed=split_seed, attack_seed=seed, presets=presets, overrides=overrides, root=root,
            device=device,
        )  # fmt: skip
        out = out if out is not None else Path("runs") / f"explain-{protocol.dataset}"
        check_folder(out)
        from contractive_gnn.bench.explain_once import explain_once

        found = explain_once(
            protocol, node, seed=seed, hops=hops, most=most, on_note=lambda note: _say(note, markup=False)
        )
        written = found.save(out)
        typer.echo(str(found))
        typer.echo(f"Written: {', '.join(map(str, written))}")


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Dynamics and fields to try; all that are registered if none."),
    ] = None,
    tries: Annotated[int, typer.Option(help="Pairs of states for each of them, shared out over its claims.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of parameters, states and pairs.")] = 0,
    jobs: Annotated[int | None, typer.Option(help=f"Processes; one a core, at most {MOST_JOBS}, if not given.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for verify.jsonl: every claim, and the pairs that break one.")
    ] = None,
    plugins: Plugins = None,
    debug: Debug = False,
) -> None:
    """Try to break every constant that the registered dynamics and fields declare.

    The exit status is 1 if a claim that calls itself certified is broken.
    """
    with _errors_in_one_line(debug):
        _use(plugins)
        _at_least(1, tries=tries, jobs=jobs)
        check_whole("--seed", seed, least=0, below=2**32)
        from contractive_gnn.bench import verify as verification
        from contractive_gnn.bench.results import check_folder
        from contractive_gnn.testing.verification import select

        wanted = select(names)
        if out is not None:
            check_folder(out)
        found: list[Verdict] = []
        lost: list[Died] = []
        processes = jobs or _default_jobs()
        with _bar("trying to break claims", total=len(wanted)) as step:
            for message in verification.verdicts(wanted, tries=tries, seed=seed, processes=processes):
                if isinstance(message, verification.Died):
                    lost.append(message)
                else:
                    found.append(message)
                    if out is not None:  # as it comes: a long run that is stopped keeps what it found
                        verification.write(found, out)
                step(1)
        found.sort(key=lambda verdict: wanted.index(verdict.name))
        console = _wide_console()
        shown = verification.table(found)
        needed = console.measure(shown, options=console.options.update(max_width=10_000)).minimum
        console.width = max(console.width, needed)  # a narrow terminal breaks the lines, and no column is lost
        console.print(shown, crop=False)
        for verdict in found:
            if verdict.broken:
                console.print(verification.counterexample(verdict), markup=False, highlight=False, soft_wrap=True)
        if out is not None:
            typer.echo(f"Written: {verification.write(found, out)}")
        for died in lost:
            _say(f"{died.name}: {died.reason}", markup=False)
        if lost or any(verdict.word == "BROKEN" for verdict in found):
            raise typer.Exit(1)


@app.command()
def certify(
    out: Annotated[Path, typer.Option(help="Folder of the results, where a stopped run resumes.", show_default=False)],
    dataset: Dataset = "csbm",
    data: GraphFile = None,
    labels: Labels = None,
    features: Features = None,
    model: Annotated[
        str,
        typer.Option(
            help="Preset of an ℓ∞ diffusion, whose training aims at the certificate; or any model, by its name or as "
            "FILE.py:NAME: what no bound covers is certified by randomised smoothing."
        ),
    ] = "certified",
    flips: Annotated[
        int,
        typer.Option(
            help="Certify 1, 2, … up to this many flipped edges at every node at once; or, by smoothing, in all."
        ),
    ] = 1,
    fraction: Annotated[
        float | None, typer.Option(help="Certify flips of this fraction of each node's degree, too.")
    ] = None,
    total: Annotated[
        int | None, typer.Option(help="Certify this many flips in the whole graph, wherever they are, too.")
    ] = None,
    feature_flips: Annotated[
        int, typer.Option(help="With as many flipped binary features at every node, at the same time.")
    ] = 0,
    kind: Annotated[str, typer.Option(help="both, additions or deletions.")] = "both",
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1, …")] = 1,
    attack: Annotated[
        bool, typer.Option("--attack", help="Try to break the certificates with every attack there is.")
    ] = False,
    attack_predictions: Annotated[
        int, typer.Option(help="How many attacked predictions to look at for each certificate.")
    ] = 100_000,
    noise: Annotated[
        str, typer.Option(metavar="ADD,DELETE", help="Of smoothing: how likely a pair is joined, and an edge dropped.")
    ] = "0.001,0.6",
    samples: Annotated[int, typer.Option(help="Of smoothing: how many noisy graphs bound each probability.")] = 1000,
    split: Split = None,
    split_seed: SplitSeed = 0,
    overrides: Overrides = None,
    plugins: Plugins = None,
    root: Root = None,
    debug: Debug = False,
) -> None:
    """Print how many edges anyone may flip at every node at once without changing a prediction."""
    with _errors_in_one_line(debug):
        _use(plugins)
        own_graph = _own_graph(dataset, data, labels, features)
        split, split_seed = _split(split, split_seed, own=own_graph is not None)
        (name,), own = _models(model) if model.strip() else ((model,), ())
        from contractive_gnn.bench.certify import run
        from contractive_gnn.certificates.smoothing import SparseNoise

        broken = run(
            dataset=dataset if own_graph is None else own_graph.name, own_graph=own_graph, own=own, model=name,
            flips=flips, fraction=fraction, total=total, feature_flips=feature_flips, kind=kind, seeds=seeds,
            attack_predictions=attack_predictions if attack else 0, split=split, split_seed=split_seed,
            overrides=overrides or [], root=root, out=out, noise=SparseNoise(*_two_numbers("--noise", noise)),
            samples=samples, on_note=lambda note: _say(note, markup=False),
        )  # fmt: skip
        if broken:
            _say(f"[bold red]{broken} certified prediction(s) were changed: the certificate is wrong.[/]")
            raise typer.Exit(1)


@app.command()
def speed(
    out: Annotated[Path, typer.Option(help="Folder for speed.jsonl and the plot.", show_default=False)],
    suite: Annotated[
        str | None,
        typer.Option(help="metattack, nettack, layers, training or scale, comma-separated; all but scale by default."),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Of scale: arxiv, million, growth or a number of nodes, comma-separated.")
    ] = "arxiv",
    task: Annotated[
        str, typer.Option(help="Of scale: step, fit, attack and certificate, comma-separated.")
    ] = "step,fit,attack,certificate",
    flips: Annotated[int, typer.Option(help="Flips of the two Metattacks on Cora; DeepRobust takes seconds each.")] = 3,
    fraction: Annotated[
        float | None, typer.Option(help="Also our Metattack alone on Cora with this share of the edges, as 0.25.")
    ] = None,
    large_fraction: Annotated[
        float | None, typer.Option(help="Also our Metattack on 19,717 nodes with this share of the edges, as 0.01.")
    ] = None,
    targets: Annotated[int, typer.Option(help="Nodes that the two Nettacks attack, five flips each.")] = 20,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs of each fit, without early stopping; not given what the preset says on Cora, and 200 in scale."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    debug: Debug = False,
) -> None:
    """Measure time and memory beside PyG's and DeepRobust's, both in this process; of scale each run in its own."""
    with _errors_in_one_line(debug):
        import torch

        from contractive_gnn.bench.protocol import check_names
        from contractive_gnn.bench.results import check_folder
        from contractive_gnn.bench.scale import scale, sized
        from contractive_gnn.bench.scale_runs import TASKS
        from contractive_gnn.bench.speed import SUITES, Figure, read_lines, write

        _at_least(1, flips=flips, targets=targets, epochs=epochs, threads=threads)
        for name, share in (("--fraction", fraction), ("--large-fraction", large_fraction)):
            if share is not None:
                check_real(name, share, above=0, most=1)
        check_folder(out)
        names = list(SUITES) if suite is None else [name.strip() for name in suite.split(",")]
        suites = {**SUITES, "scale": scale}
        check_names("suite", names, suites)
        sizes, tasks = ([part.strip() for part in text.split(",")] for text in (size, task))
        check_names("task", tasks, TASKS)
        for name in sizes:
            if name != "growth":
                sized(name)
        read_lines(out)  # an alien file there is told before anything is measured
        torch.set_num_threads(threads)
        options: dict[str, dict[str, Any]] = {
            "metattack": {"flips": flips, "fraction": fraction, "large_fraction": large_fraction},
            "nettack": {"targets": targets},
            "training": {"epochs": epochs},
            "scale": {
                "folder": out, "sizes": sizes, "tasks": tasks, "threads": threads, "epochs": epochs or 200,
                "say": lambda text: _say(text, markup=False),
            },
        }  # fmt: skip
        figures: list[Figure] = []
        for name in names:
            for figure in suites[name](**options.get(name, {})):
                figures.append(figure)
                write(figures, out)
                against = "" if figure.ratio is None else f", {figure.ratio:.3g} × as fast as {figure.peer}"
                _say(f"{figure.name}: {figure.ours_s:.4g} s{against}", markup=False)
        table = Table()
        for column in ("what", "ours", "peer", "its time", "ratio", "our MB", "its MB"):
            table.add_column(column, overflow="fold")

        def shown(value: float | None, unit: str = "") -> str:
            return "–" if value is None else f"{value:.3g}{unit}"

        for figure in figures:
            table.add_row(
                figure.name, shown(figure.ours_s, " s"), figure.peer or "–", shown(figure.peer_s, " s"),
                shown(figure.ratio, " ×"), shown(figure.ours_mb), shown(figure.peer_mb),
            )  # fmt: skip
        Console().print(table)
        typer.echo(f"Written: {', '.join(map(str, write(figures, out)))}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with results.jsonl.", show_default=False)],
    anchors: Annotated[
        Path | None,
        typer.Option(
            help="CSV of published numbers to show beside (dataset, attack, budget, model, accuracy, std, source)."
        ),
    ] = None,
    certified: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of `certify`, whose bounds stand beside what the attacks found."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Table, plots and a self-contained HTML page from DIR/results.jsonl."""
    with _errors_in_one_line(debug):
        _report(folder, anchors, certified)


@app.command()
def datasets(plugins: Plugins = None, root: Root = None, debug: Debug = False) -> None:
    """What data is here, and what can be fetched."""
    with _errors_in_one_line(debug):
        _use(plugins)
        from contractive_gnn.datasets import status

        table = Table()
        for column in ("name", "what it is", "state", "to fetch", "published attacks"):
            table.add_column(column, overflow="fold")
        for entry in status(root):
            missing = f"{entry.bytes_to_fetch / 1e6:.1f} MB" if entry.bytes_to_fetch else "–"
            published = "; ".join(
                f"{name} {', '.join(format(budget, 'g') for budget in budgets)}"
                for name, budgets in entry.published.items()
            )
            table.add_row(entry.name, entry.description, entry.state, missing, published or "–")
        Console().print(table)


@app.command()
def pretrain(
    model: Annotated[
        str | None, typer.Argument(help="Name of a preset; without one, what there is is listed.", show_default=False)
    ] = None,
    dataset: Annotated[str, typer.Option(help="cora or citeseer.")] = "cora",
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write it; the cache if not given.", show_default=False)
    ] = None,
    root: Root = None,
    debug: Debug = False,
) -> None:
    """Make a trained model for `contractive_gnn.load_pretrained`, and check that it predicts what is recorded."""
    with _errors_in_one_line(debug):
        if model is None:
            _list_pretrained(out)
            return
        from contractive_gnn.bench.pretrain import pretrain as made
        from contractive_gnn.pretrained import find

        checkpoint = find(model, dataset, seed=seed)
        if checkpoint.sha256 is not None and out is None:
            _say(f"{checkpoint} comes with the package: nothing to make. With --out it is trained anew.", markup=False)
            return
        path = made(model, dataset, seed=seed, folder=out, root=root)
        typer.echo(f"Written: {path}, {checkpoint.accuracy:.1f} % of the test nodes, as recorded")


def _list_pretrained(folder: Path | None) -> None:
    """A table of what `load_pretrained` knows."""
    from contractive_gnn.pretrained import checkpoints
    from contractive_gnn.pretrained.loading import made_file

    table = Table()
    for column in ("model", "data set", "seed", "accuracy", "where it is"):
        table.add_column(column, overflow="fold")
    for checkpoint in checkpoints():
        made = made_file(checkpoint, folder)
        shipped = checkpoint.sha256 is not None and folder is None
        place = "with the package" if shipped else str(made) if made.is_file() else checkpoint.command
        table.add_row(
            checkpoint.preset, checkpoint.dataset, str(checkpoint.seed), f"{checkpoint.accuracy:.1f} %", place
        )
    Console().print(table)


def _use(plugins: list[str] | None) -> None:
    """Import the plug-ins, here and in every process that is started."""
    from contractive_gnn.plugins import add_plugins

    add_plugins(plugins or ())


def _protocol(
    *,
    dataset: str,
    models: str,
    attacks: str | None,
    seeds: int,
    split: str | None,
    split_seed: int,
    attack_seed: int,
    root: Path | None,
    device: str,
    data: Path | None = None,
    labels: Path | None = None,
    features: Path | None = None,
    targets: str | None = None,
    presets: list[str] | None = None,
    overrides: list[str] | None = None,
    first_seed: int = 0,
) -> Protocol:
    """The protocol that the options describe."""
    from contractive_gnn.bench.presets import parse_preset
    from contractive_gnn.bench.protocol import Override, Protocol, check_names, missing_packages
    from contractive_gnn.bench.spec import parse_attacks
    from contractive_gnn.bench.targets import TargetRule
    from contractive_gnn.datasets import DATASETS, has_published
    from contractive_gnn.datasets.protocol import INDUCTIVE

    own_graph = _own_graph(dataset, data, labels, features)
    split, split_seed = _split(split, split_seed, own=own_graph is not None)
    default: tuple[str, tuple[str, ...]] = EMBEDDED_ATTACKS, QUICK
    if own_graph is not None:
        dataset, default = own_graph.name, (OWN_ATTACKS, ())
    else:
        check_names("dataset", [dataset], DATASETS)
        if has_published(dataset, "metattack"):
            default = PUBLISHED_ATTACKS if split == "prognn" else OWN_ATTACKS, ()
    if split == INDUCTIVE:
        default = INDUCTIVE_ATTACKS, ()
    default_attacks, quick = default
    specs = parse_attacks(default_attacks if attacks is None else attacks, dataset=dataset)
    lacking = {spec: packages for spec in specs if (packages := missing_packages(spec))}
    if lacking:
        names = ", ".join(dict.fromkeys(spec.label for spec in lacking))
        absent = ", ".join(dict.fromkeys(package for packages in lacking.values() for package in packages))
        if attacks is not None:
            raise ModuleNotFoundError(f"{names}: {absent} is not installed; {INSTALL_ATTACKS}")
        _say(f"Left out, because {absent} is not installed: {names}. To have them: {INSTALL_ATTACKS}", markup=False)
        specs = tuple(spec for spec in specs if spec not in lacking)
    given_presets: dict[str, Preset] = {}
    for text in presets or ():
        name, preset = parse_preset(text, dataset)
        if name in given_presets:
            raise ValueError(f"--preset {text!r}: {name!r} has one already; give each model one")
        given_presets[name] = preset
    present = {None, *(step.name for spec in specs for step in spec.steps)}
    first = [] if attacks is not None else [o for o in map(Override.parse, quick) if o.subject in present]
    chosen, own_models = _models(models)
    return Protocol(
        dataset=dataset,
        models=chosen,
        attacks=specs,
        seeds=tuple(range(first_seed, first_seed + seeds)),
        split=split,
        split_seed=split_seed,
        attack_seed=attack_seed,
        targets=TargetRule.parse(targets if targets is not None else QUICK_TARGETS if first else TARGETS),
        presets=given_presets,
        overrides=(*first, *(Override.parse(text) for text in overrides or ())),
        root=root,
        device=device,
        own_models=own_models,
        own_graph=own_graph,
    )


def _own_graph(dataset: str, data: Path | None, labels: Path | None, features: Path | None) -> OwnGraph | None:
    """The graph that --data names, or None."""
    if data is None:
        for option, given in (("--labels", labels), ("--features", features)):
            if given is not None:
                raise ValueError(f"{option} {given}: it belongs to a graph of your own; give --data, too")
        return None
    if dataset not in EMBEDDED:
        raise ValueError(f"--dataset {dataset} and --data {data} are two graphs; give one of them")
    from contractive_gnn.bench.own_graph import OwnGraph

    return OwnGraph.file(data, labels=labels, features=features)


def _split(split: str | None, split_seed: int, *, own: bool) -> tuple[str | None, int]:
    """The name of the split and its seed; ``--split 3`` is the fourth of the graph's own."""
    if not own:
        return split or "prognn", split_seed
    if split is None or not split.isdigit():
        return split, split_seed
    if split_seed not in (0, int(split)):
        raise ValueError(f"--split {split} and --split-seed {split_seed} are two splits; give one of them")
    return "own", int(split)


def _no_other_split(splits: int, split: str | None, split_seed: int | None) -> None:
    """Raise ValueError where --splits stands beside what names one split."""
    given = [("--split-seed", split_seed), ("--split", split if split is not None and split.isdigit() else None)]
    for option, value in given:
        if value is not None:
            raise ValueError(f"--splits {splits} and {option} {value}: several splits, or one; give one of them")


def _models(text: str) -> tuple[tuple[str, ...], tuple[OwnModel, ...]]:
    """The names of the models, and those of them that are one's own."""
    from contractive_gnn.bench import own_models

    names, own = [], []
    for name in (part.strip() for part in text.split(",") if part.strip()):
        if own_models.is_file(name):
            own.append(own_models.OwnModel.parse(name))
            name = own[-1].name
        names.append(name)
    own_models.check_distinct(own)
    own_models.use(own)
    return tuple(names), tuple(own)


def _two_numbers(option: str, text: str) -> tuple[float, float]:
    """Two numbers with a comma between.

    Raises:
        ValueError: another text.
    """
    try:
        first, second = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"{option}: expected two numbers with a comma between, like 0.001,0.6, got {text!r}") from None
    return first, second


def _from_here(path: Path) -> str:
    """A path as one would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _command(
    protocol: Protocol,
    *,
    presets: list[str] | None,
    plugins: list[str] | None,
    jobs: int | None,
    anchors: Path | None,
    out: Path,
    splits: int | None = None,
    executor: str = "processes",
    address: str | None = None,
) -> str:
    """The command line that repeats a benchmark: its defaults spelled out, since they may change."""
    own = {model.name: model for model in protocol.own_models if model.path is not None}
    files = {name: f"{_from_here(model.path)}:{model.attribute}" for name, model in own.items() if model.path}
    given: list[tuple[str, object]] = [
        ("--dataset", None if protocol.own_graph else protocol.dataset),
        ("--data", protocol.own_graph and protocol.own_graph.path),
        ("--labels", protocol.own_graph and protocol.own_graph.labels),
        ("--features", protocol.own_graph and protocol.own_graph.features),
        ("--models", ",".join(files.get(name, name) for name in protocol.models)),
        ("--attacks", ",".join(map(str, protocol.attacks))),
        ("--seeds", len(protocol.seeds)),
        ("--first-seed", protocol.seeds[0] or None),
        ("--split", protocol.split),
        ("--split-seed", protocol.split_seed if splits is None else None),
        ("--splits", splits),
        ("--attack-seed", protocol.attack_seed),
        ("--targets", protocol.targets.written),
        *(("--preset", preset) for preset in presets or ()),
        *(("--set", override) for override in protocol.overrides),
        *(("--plugin", plugin) for plugin in plugins or ()),
        ("--device", None if protocol.device == "cpu" else protocol.device),
        ("--jobs", jobs),
        ("--executor", None if executor == "processes" else executor),
        ("--address", address),
        ("--anchors", anchors),
        ("--root", protocol.root),
        ("--out", out),
    ]
    words = (word for name, value in given if value is not None for word in (name, str(value)))
    return shlex.join(["contractive-gnn", "bench", *words])


def _ray(name: str, address: str | None, *, jobs: int | None, out: Path, device: str) -> RayTasks | None:
    """What --executor ray means; None where processes of this machine run the jobs."""
    if name not in ("processes", "ray"):
        raise ValueError(f"--executor {name}: expected processes or ray")
    if name == "processes":
        if address is not None:
            raise ValueError(f"--address {address}: it belongs to --executor ray")
        return None
    if device != "cpu":
        raise ValueError(f"--device {device}: --executor ray measures on CPUs; drop one of the two options")
    from contractive_gnn.bench.ray_tasks import RayTasks

    address = address or os.environ.get("RAY_ADDRESS") or None
    return RayTasks(out, address, at_once=jobs if jobs or address else _default_jobs())


def _bench(
    protocol: Protocol, *, out: Path, jobs: int | None, ray: RayTasks | None, command: str, splits: int | None
) -> tuple[int, list[Failure]]:
    from contractive_gnn.bench.invocations import Invocation
    from contractive_gnn.bench.protocol import over_splits
    from contractive_gnn.bench.results import RESULTS, ResultsFile
    from contractive_gnn.bench.runner import Failure, execute, plan_splits

    protocols = (protocol,) if splits is None else over_splits(protocol, splits)
    with ResultsFile(out / RESULTS) as results:
        todo = plan_splits(protocols, out=out, finished=results.finished)
        Invocation(command, protocol.models).append_to(out)
        _say_what_is_damaged(todo.graphs)
        for note in todo.notes:
            _say(note, markup=False)
        if todo.n_finished:
            _say(f"{todo.n_finished} of {todo.n_cells} numbers are in {out} already.", markup=False)
        failures = []
        try:
            processes = jobs or _default_jobs()
            with (
                _sigterm_is_ctrl_c(),
                _bar("attacking and training", total=todo.n_steps) as step,
                contextlib.closing(execute(todo, results, processes=processes, executor=ray)) as messages,
            ):
                for message in messages:
                    step(message.cells if isinstance(message, Failure) else 1)
                    if isinstance(message, Failure):
                        failures.append(message)
        except KeyboardInterrupt:
            _say(f"\nStopped. {len(results.finished)} numbers are kept in {out}. To resume:\n{command}", markup=False)
            raise typer.Exit(130) from None
        return len(results.finished), failures


def _say_what_is_damaged(graphs: Sequence[GraphJob]) -> None:
    for graph in graphs:
        if graph.damaged:
            _say(f"Made anew: {graph.damaged}", markup=False)


@contextlib.contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _at_least(least: int, **options: int | None) -> None:
    """Raise ValueError for an option, named as in Python, that is given and too small."""
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')}: expected at least {least}, got {value}")


def _default_jobs() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_JOBS)


@contextlib.contextmanager
def _bar(what: str, *, total: int) -> Iterator[Any]:
    """A bar with the time left, on a terminal; anywhere else, as in a log, a line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(task, steps)


def _lines(what: str, total: int) -> Callable[[int], None]:
    began = said = time.monotonic()
    done = 0

    def step(steps: int) -> None:
        nonlocal said, done
        done += steps
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done < total:
            said = now
            _say(f"{what}: {done} of {total} after {(now - began) / 60:.0f} min", markup=False)

    return step


def _report(folder: Path, anchors: Path | None, certified: Path | None = None) -> None:
    from contractive_gnn.bench.bundle import missing
    from contractive_gnn.bench.report import Report

    made = Report.of(folder, anchors=anchors, certified=certified)
    written = made.write(folder)  # before anything is printed: whoever reads the output may stop doing so
    made.print(_wide_console())
    typer.echo(f"Written: {', '.join(map(str, written))} and the pictures beside them.")
    if why := missing():
        typer.echo(f"The page has still pictures: {why}")


def _wide_console() -> Console:
    """The terminal, or a file, which has room; $COLUMNS says how much."""
    return Console() if Console().is_terminal or "COLUMNS" in os.environ else Console(width=120)


def _say(text: str, *, markup: bool = True) -> None:
    Console(stderr=True).print(text, markup=markup, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _former_names_told() -> Iterator[None]:
    """Say each once what has another name now: by itself Python shows no DeprecationWarning of a library."""
    told: set[str] = set()

    def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, DeprecationWarning):
            shown_before(message, category, *where, **more)
        elif str(message) not in told:
            told.add(str(message))
            _say(f"note: {message}", markup=False)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", r"(?s).*( called .* now|next release)", DeprecationWarning)
        shown_before, warnings.showwarning = warnings.showwarning, tell
        yield


@contextlib.contextmanager
def _errors_in_one_line(debug: bool) -> Iterator[None]:
    quiet_dependencies()
    try:
        with _former_names_told():
            yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        _say("Stopped.")
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        expected = isinstance(error, ValueError | TypeError | ImportError | OSError | RuntimeError)
        hint = "" if expected else f" ({type(error).__name__}; --debug shows where)"
        Console(stderr=True).print("[bold red]error:[/] ", end="")
        _say(text + hint, markup=False)
        raise typer.Exit(2) from error
