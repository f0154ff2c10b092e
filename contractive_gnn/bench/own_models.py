"""Models of your own beside the registered ones: ``mine.py:Net`` on the command line, a class in Python.

``Net`` is a class or a function that is called as ``Net(in_channels, out_channels, **hyperparameters)`` and gives an
``nn.Module`` of one of the forms of :mod:`contractive_gnn.bench.adapter`. Its name in the results is ``mine.py:Net``:
the file's name without the folder. That is no name that can be registered, so it hides no other model, and no published
number is taken for one of it.

The digest of its code is among the hyperparameters of its results, as that of a plug-in is
(:mod:`contractive_gnn.plugins`): a changed file is measured anew. A process learns of such a model by :func:`use`; a
worker process does when it gets a job, and refuses to run other code than the process that started it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from torch import nn

from contractive_gnn import former
from contractive_gnn.bench.adapter import Adapted, adapted
from contractive_gnn.bench.code_of import code_of
from contractive_gnn.names import closest
from contractive_gnn.nn import build as build_registered
from contractive_gnn.nn import model_names
from contractive_gnn.plugins import run_source, source_digest
from contractive_gnn.registry import transaction

#: what the number of features and of classes are called, by who writes models
_IN: Final = ("in_channels", "in_features", "in_dim", "input_dim", "num_features", "n_features", "nfeat", "nfeats")
_OUT: Final = (
    *("out_channels", "out_features", "out_dim", "output_dim", "num_classes", "n_classes", "nclass", "nclasses"),
)


class ModelFileError(ValueError):
    """A model of your own that cannot be found or built; the text says what was tried and what to do."""


@dataclass(frozen=True)
class OwnModel:
    """A class or a function that makes models.

    Attributes:
        name: what the results call it.
        digest: of its code, 12 digits of the SHA-256.
        path: the file that it is in; None for one that is only in this process.
        attribute: its name in the file.
        given: the class or function, where it is in no file.
    """

    name: str
    digest: str
    path: Path | None = None
    attribute: str = ""
    given: Callable[..., Any] | None = field(default=None, compare=False)

    @property
    def code(self) -> dict[str, str]:
        """The digest of its code by the name of the file, as :func:`contractive_gnn.plugins.digests` has it."""
        return {self.name if self.path is None else self.path.name: self.digest}

    @classmethod
    def parse(cls, text: str) -> OwnModel:
        """Read ``FILE.py:NAME``, and look into the file.

        Raises:
            ModelFileError: there is no such file, or no such class or function in it.
        """
        file, _, attribute = text.rpartition(":")
        if not (file.endswith(".py") and attribute):
            raise ModelFileError(f"model {text!r}: expected FILE.py:NAME, like mine.py:Net")
        path = Path(os.path.expandvars(file)).expanduser().resolve()
        if not path.is_file():
            raise ModelFileError(f"model {text!r}: there is no file {path}; expected FILE.py:NAME, like mine.py:Net")
        own = cls(f"{path.name}:{attribute}", source_digest(path.read_bytes()), path, attribute)
        own.factory()
        return own

    @classmethod
    def of(cls, factory: Callable[..., Any], *, name: str | None = None) -> OwnModel:
        """A class or a function of this process.

        Args:
            factory: as in :mod:`contractive_gnn.bench.own_models`.
            name: what the results call it; its own name if none is given.

        Raises:
            ModelFileError: neither a class nor a function.
        """
        if isinstance(factory, nn.Module) or not callable(factory):
            raise ModelFileError(
                f"model {factory!r}: expected the name of a model, or a class or function "
                "(in_channels, out_channels, **hyperparameters) that makes one; each seed and each poisoned graph "
                "is fitted by a new one"
            )
        known = name if name is not None else getattr(factory, "__name__", type(factory).__name__)
        return cls(known, source_digest(code_of(factory).encode()), given=factory)

    def factory(self) -> Callable[..., Any]:
        """The class or function; the file is run when it is first asked for.

        Raises:
            ModelFileError: the file cannot be run, has changed since, or does not have it.
        """
        if self.path is None:
            assert self.given is not None
            return self.given
        module = _module(self.path, self.digest)
        found = getattr(module, self.attribute, None)
        if callable(found) and not isinstance(found, nn.Module):
            return found  # type: ignore[no-any-return]
        there = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__ and not key.startswith("_")
        ]
        given = "is a module that is built already" if isinstance(found, nn.Module) else "is not there"
        close = closest(self.attribute, there)
        hint = f" Did you mean {close!r}?" if close and close != self.attribute else ""
        raise ModelFileError(
            f"model {self.name!r}: {self.attribute} {given}; expected a class or a function "
            f"(in_channels, out_channels, **hyperparameters) in {self.path}.{hint} "
            f"There are: {', '.join(sorted(there)) or 'none'}"
        )

    def hyperparameters(self) -> tuple[str, ...] | None:
        """The names of the others that it takes beside the two widths; None where it takes any."""
        parameters = inspect.signature(self.factory()).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return None
        positional, keywords = _widths(parameters)
        by_position = list(parameters)[: len(positional)]
        return tuple(name for name in parameters if name not in (*by_position, *keywords))

    def build(self, in_channels: int, out_channels: int, **hyperparameters: Any) -> nn.Module:
        """A model with new parameters, in the form that training and attacks call.

        Raises:
            ModelFileError: it cannot be called so, or gives no module.
            AdapterError: see :func:`contractive_gnn.bench.adapter.adapted`.
        """
        factory = self.factory()

        def anew() -> nn.Module:
            return self._made(factory, in_channels, out_channels, hyperparameters)

        return adapted(anew(), anew)

    def _made(
        self, factory: Callable[..., Any], in_channels: int, out_channels: int, hyperparameters: Mapping[str, Any]
    ) -> nn.Module:
        positional, keywords = _widths(inspect.signature(factory).parameters)
        widths = {"in": in_channels, "out": out_channels}
        arguments = [widths[which] for which in positional]
        named = {name: widths[which] for name, which in keywords.items()}
        named.update(hyperparameters)
        name = getattr(factory, "__name__", self.name)
        shown = ", ".join([*map(repr, arguments), *(f"{key}={value!r}" for key, value in named.items())])
        try:
            inspect.signature(factory).bind(*arguments, **named)
        except TypeError as error:
            raise ModelFileError(
                f"{name}({shown}) was tried, and {error}; expected {name}(in_channels, out_channels, "
                f"**hyperparameters), the others with defaults or set by --set '{self.name}.model.KEY=VALUE'"
            ) from error
        try:
            made = factory(*arguments, **named)
        except Exception as error:
            raise ModelFileError(f"{name}({shown}) was tried, and raised {type(error).__name__}: {error}") from error
        if not isinstance(made, nn.Module):
            raise ModelFileError(f"{name}({shown}) gave a {type(made).__name__}; expected a torch.nn.Module")
        return made


_own: dict[str, OwnModel] = {}


def use(models: Iterable[OwnModel]) -> None:
    """Let this process know these models by their names.

    Raises:
        ModelFileError: two of one name that are not one, or one of a registered name.
    """
    for model in models:
        if model.name in (*model_names(), *former.MODELS):
            raise ModelFileError(f"a registered model is called {model.name!r}; give yours another name")
        _own[model.name] = model


def check_distinct(models: Iterable[OwnModel]) -> None:
    """Raise unless the models have names of their own.

    Raises:
        ModelFileError: two files of one name, say.
    """
    seen: dict[str, OwnModel] = {}
    for model in models:
        if (other := seen.setdefault(model.name, model)) != model:
            raise ModelFileError(
                f"{other.path} and {model.path} are both called {model.name!r} in the results; rename one of the files"
            )


def is_file(text: str) -> bool:
    """Whether a name on the command line means a model in a file."""
    return text.rpartition(":")[0].endswith(".py") or text.endswith(".py")


def names() -> list[str]:
    """The registered models, and those of one's own."""
    return [*model_names(), *_own]


def get(name: str) -> OwnModel | None:
    """The model of one's own of this name, or None."""
    return _own.get(name)


def build(name: str, in_channels: int, out_channels: int, **hyperparameters: Any) -> nn.Module:
    """Build a model by its name, registered or of one's own.

    Raises:
        ValueError, TypeError: see :func:`contractive_gnn.nn.build` and :meth:`OwnModel.build`.
    """
    own = _own.get(name)
    if own is None:
        return build_registered(name, in_channels, out_channels, **hyperparameters)
    return own.build(in_channels, out_channels, **hyperparameters)


def note(name: str, model: nn.Module) -> str:
    """How a model of one's own is called where that was read from the names in its ``forward``; empty elsewhere."""
    return f"{name}: {model.reason}." if isinstance(model, Adapted) and model.reason else ""


def _widths(parameters: Mapping[str, inspect.Parameter]) -> tuple[list[str], dict[str, str]]:
    """How the numbers of features and of classes are given: by position, or under which names."""
    keyword = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    named = {"in": next((n for n in _IN if n in keyword), None), "out": next((n for n in _OUT if n in keyword), None)}
    if all(named.values()):
        return [], {str(name): which for which, name in named.items()}
    return ["in", "out"], {}


@functools.cache
def _module(path: Path, digest: str) -> ModuleType:
    """The file as a module, run once in a process for each content.

    Raises:
        ModelFileError: another content than that of ``digest``, or one that cannot be run.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"the model file {path} cannot be read ({error.strerror})") from error
    if source_digest(source) != digest:
        raise ModelFileError(f"the model file {path} has changed since this run began; start it again")
    name = f"contractive_gnn_model_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{digest}"
    try:
        with transaction():  # it may register something as well
            return run_source(source, path, name)
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = "; a model file stands alone: put what it needs into it, or install that as a package"
        raise ModelFileError(
            f"the model file {path} cannot be imported: {type(error).__name__}: {error}{hint}"
        ) from error
