"""Where each public name has its page, and links from any way a name can be written to that page."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer

import contractive_gnn

PACKAGE = "contractive_gnn"

#: packages with pages; a name that several of them have gets its page in the first
ROOMS = (
    *(f"{PACKAGE}.{room}" for room in contractive_gnn._ROOMS if room not in ("activations", "bench")),
    *(f"{PACKAGE}.attacks.{room}" for room in ("auto", "evolution", "images", "injection", "whitebox")),
    *(f"{PACKAGE}.datasets.{room}" for room in ("files", "images", "pdes", "systems")),
    *(f"{PACKAGE}.dynamics.{room}" for room in ("conservative", "pdes")),
    *(f"{PACKAGE}.nn.{room}" for room in ("deeprobust", "images", "lipschitz", "similarity")),
    *(f"{PACKAGE}.training.{room}" for room in ("images", "pdes", "systems")),
    f"{PACKAGE}.activations",
    PACKAGE,
)

#: what other packages document, and ours that are not public: links to them are shown without one
ELSEWHERE = [("py:.*", r"(?!contractive_gnn\.).*")]


def exported(room: ModuleType) -> list[str]:
    """The public names of a package: those of ``__all__``, or those that it defines."""
    own = [name for name, value in vars(room).items() if getattr(value, "__module__", None) == room.__name__]
    return list(getattr(room, "__all__", [name for name in own if name[0] != "_"]))


def homes() -> dict[str, str]:
    """By each public name in full, the name that has the page: ``contractive_gnn.nn.Flow`` for the package's own."""
    pages: dict[int, str] = {}
    found = {}
    for name in ROOMS:
        room = importlib.import_module(name)
        for short in exported(room):
            full = f"{name}.{short}"
            found[full] = pages.setdefault(id(getattr(room, short)), full)
    return found


def described(name: str) -> Any:
    """The object that a full name stands for; None where there is none."""
    module, _, rest = name.rpartition(".")
    while module:
        try:
            found = importlib.import_module(module)
        except ImportError:
            module, _, left = module.rpartition(".")
            rest = f"{left}.{rest}"
            continue
        for part in rest.split("."):
            found = getattr(found, part, None)
        return found
    return None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement) -> nodes.Node | None:
    """A link to the page of a name that is written with another path; plain text for a name of ours without a page."""
    if node.get("refdomain") != "py":
        return None
    given, within = node["reftarget"], node.get("py:module")
    domain = env.domains["py"]
    for name in (given, f"{within}.{given}"):
        owner, _, member = name.rpartition(".")
        found, parent = described(name), described(owner)
        for target, rest in ((found, ""), (parent, f".{member}")):
            home = app.pages_by_id.get(id(target)) if target is not None else None
            if home and (home + rest) in domain.objects:
                return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home + rest, node, text)
        if found is not None:
            return text
    return None


EXAMPLES = Path(__file__).parents[1] / "api" / "examples"


def files() -> dict[str, str]:
    """By package, the name of its file of examples."""
    named = {room: f"{room.removeprefix(PACKAGE).strip('.') or 'face'}.md" for room in ROOMS}
    return {room: name for room, name in named.items() if (EXAMPLES / name).is_file()}


def blocks(room: str) -> list[str]:
    """The examples in ``api/examples`` of a package, each of which stands alone."""
    name = files().get(room)
    return re.findall(r"```pycon\n(.*?)```", (EXAMPLES / name).read_text("utf-8"), re.DOTALL) if name else []


def example(full: str) -> str | None:
    """The example of a public name whose own text has none: the first of its package that uses the name."""
    room, _, short = full.rpartition(".")
    return next((block for block in blocks(room) if re.search(rf"\b{short}\b", block)), None)


def exemplified(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """A public name whose own text has no example gets one."""
    if name in app.homes and not any(">>>" in line for line in lines) and (found := example(name)):
        lines[:] = lines if any(lines) else ["Used as the example shows."]
        lines += ["", ".. rubric:: Example", "", *found.splitlines(), ""]


#: pages of the repository that stand elsewhere on the site
MOVED = {"CONTRIBUTING.md": "contributing.md", "examples/README.rst": "gallery/index.rst"}


def moved(app: Sphinx, page: str, source: list[str]) -> None:
    """Links out of ``docs/`` that work on GitHub, to the same pages on the site."""
    for old, new in MOVED.items():
        source[0] = source[0].replace(f"../{old}", new)


def commented(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """A constant is described by the comment ``#:`` above it, wherever it is defined; not by its type."""
    if what == "data" and type(value).__module__ in ("builtins", "types", "typing"):
        lines[:] = []
        for module in [module for name, module in sys.modules.items() if name.startswith(PACKAGE)]:
            if any(other is value for other in vars(module).values()):
                found = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
                lines[:] = next(
                    (
                        found["", short]
                        for short in vars(module)
                        if ("", short) in found and vars(module)[short] is value
                    ),
                    lines,
                )


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.homes = set(homes().values())
    app.pages_by_id = {id(described(full)): home for full, home in homes().items()}
    app.connect("missing-reference", resolve)
    app.connect("source-read", moved)
    app.connect("autodoc-process-docstring", commented)
    app.connect("autodoc-process-docstring", exemplified, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
