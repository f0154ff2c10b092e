"""The site: ``sphinx-build -W docs build/site``. Everything it needs is the extra ``docs``; nothing is fetched."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
warnings.filterwarnings("ignore", category=FutureWarning)  # what PyG says about its own use of PyTorch

import public  # noqa: E402  in _extensions

import contractive_gnn  # noqa: E402

project = "contractive_gnn"
author = copyright = "The contractive_gnn developers"
version = release = contractive_gnn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",
    "public",
]
exclude_patterns = ["_*", "api/examples", "results", "**sg_execution_times.rst", "gallery/of"]
templates_path = ["_templates"]

# pages are Markdown that GitHub shows as well
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["config.cache"]

# pages of the API: one for each room, one for each public name
nitpicky = True
nitpick_ignore_regex = public.ELSEWHERE
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autosummary_context = {"homes": public.homes(), "examples": public.files()}
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shapes", ("Class attributes", "Attributes")]
python_maximum_signature_line_length = 88

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/[a-z]\w*\.py$",
    "within_subsection_order": "gallery.Listed",
    "doc_module": ("contractive_gnn",),
    "backreferences_dir": "gallery/of",
    "inspect_global_variables": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "download_all_examples": False,
    "only_warn_on_example_error": False,
    "abort_on_example_error": False,
    "reset_modules": ("matplotlib",),
    "min_reported_time": 5,
}

html_theme = "pydata_sphinx_theme"
html_title = "contractive_gnn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("index", "start", "faq")}  # they have no pages below them
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
