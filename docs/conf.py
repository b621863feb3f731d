"""Settings of Sphinx. The build needs no network: nothing is fetched, and links to other projects are plain."""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pictures

project = "crossent"
author = "The crossent developers"
project_copyright = "The crossent developers"
release = importlib.metadata.version("crossent")
version = release

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
root_doc = "index"
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(numpy|np|torch|scipy)\..*")]

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings give types in words
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_validation_exclude = {r"\.RowBlocks$"}  # a protocol is not called
numpydoc_validation_checks = {"GL03", "GL05", "GL06", "GL07", "GL08", "PR01", "PR02", "PR03", "RT01"}

myst_enable_extensions = ["deflist", "dollarmath"]

html_theme = "pydata_sphinx_theme"
html_title = f"crossent {release}"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"changelog": [], "quickstart": []}


def setup(app: Any) -> None:
    """Draw the pictures of the guides before they are looked for."""
    app.connect("builder-inited", lambda _: pictures.draw_all())
