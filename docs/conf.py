"""How the documentation is built: `python -m sphinx -W --keep-going -b html docs docs/_build`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import wanasync

project = "wanasync"
author = "the authors of wanasync"
release = version = wanasync.__version__
copyright = author  # noqa: A001 — Sphinx's name for it

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design", "wanasync_docs"]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

smartquotes = False  # would make one dash of the two before a flag

# In docstrings, single backticks are code; where they hold a public name, they lead to it.
default_role = "py:obj"
add_module_names = False
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"wanasync {version}"
html_static_path = ["_static"]
html_css_files = ["wanasync.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b6e75", "color-brand-content": "#0b6e75"},
    "dark_css_variables": {"color-brand-primary": "#5cc8d0", "color-brand-content": "#5cc8d0"},
}
