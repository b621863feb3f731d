"""Settings of Sphinx. Neither the build nor the pages need a network: nothing is fetched from elsewhere."""

import html
import importlib.metadata
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy.typing
from docutils import nodes
from sphinx.util.typing import stringify_annotation

import crossent

sys.path.insert(0, str(Path(__file__).parent))

import formulas
import pictures

project = "crossent"
author = "The crossent developers"
project_copyright = "The crossent developers"
release = importlib.metadata.version("crossent")
version = release

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
root_doc = "index"
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|torch|scipy|matplotlib|dask|pandas|pyarrow|collections|typing)\..*"),
    (r"py:class", r"(Axes|DTypeLike|NDArray|crossent\.boosting\.Dataset|crossent\._modules\._Float)"),
]

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# The short names of types stay in the signatures; docs/reference/types.md explains them.
autodoc_type_aliases = {
    name: name
    for name in ("ArrayInput", "Batch", "ClassWeight", "DTypeLike", "Index", "Logits", "Reduction", "Values")
}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
add_module_names = False
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_validation_exclude = {r"\.RowBlocks$"}  # a protocol is not called
numpydoc_validation_checks = {"GL03", "GL05", "GL06", "GL07", "GL08", "PR01", "PR02", "PR03", "RT01"}
# A class of results describes its fields as attributes: nobody calls it.
numpydoc_validation_overrides = {"PR01": {r"\n *Attributes\n"}}

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
# What a program printed is not typed in.
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"

html_theme = "pydata_sphinx_theme"
html_title = f"crossent {release}"
html_static_path = ["_static"]
html_css_files = ["crossent.css"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_scaled_image_link = False
html_theme_options = {
    "logo": {
        "text": "crossent",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo-dark.svg",
        "alt_text": "crossent: the first page",
    },
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
}
# These pages have no pages below them, and no use for an empty column.
html_sidebars = {
    page: [] for page in ("index", "install", "command_line", "performance", "genindex", "search")
}


# How Sphinx writes types, and how the source does. Classes, and functions beside them, have evaluated annotations.
EVALUATED = (
    ("Logits", crossent._arguments.Logits),
    ("ArrayInput", crossent._interop.ArrayInput),
    ("DTypeLike", numpy.typing.DTypeLike),
    ("Reduction", crossent._arguments.Reduction),
    ("Values", crossent._arguments.Values),
)
WRITTEN = [
    *((re.compile(re.escape(stringify_annotation(type_, mode="smart"))), name) for name, type_ in EVALUATED),
    (re.compile(r"TypeAliasForwardRef\('(\w+)'\)"), r"\1"),
    (
        re.compile(
            r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[((?:[^\[\]]|\[[^\]]*\])*)\]\]"
        ),
        r"~numpy.typing.NDArray[\1]",
    ),
    (re.compile(r"~crossent\._modules\._ResultT"), "~typing.Any"),
    (re.compile(r"~crossent\.sklearn\._Self"), "~typing.Self"),
    (re.compile(r"\b_(pandas|pyarrow)\."), r"\1."),
]


def tidy_signature(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write the types of a signature as the source does, and leave it out for a class that nobody calls."""
    if what == "class" and "\nParameters\n---" not in (inspect.getdoc(thing) or ""):
        return "", None  # a result that functions return, a protocol, a warning
    for types, written in WRITTEN:
        signature, returns = (text and types.sub(written, text) for text in (signature, returns))
    return signature, returns


def skip_fields(app: Any, what: str, name: str, thing: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what Python says of the fields of a named tuple: the class describes them."""
    return True if str(getattr(thing, "__doc__", "")).startswith("Alias for field number") else None


def find_source(app: Any, module: str, attribute: str) -> str | None:
    """Return the module that has the code of a public name, for its link to the source."""
    name = attribute.split(".")[0]
    thing = getattr(sys.modules.get(module), name, None)
    homes = [home for home in sys.modules if home.startswith("crossent.") and is_defined(home, name)]
    return next((home for home in homes if getattr(sys.modules[home], name) is thing), None)


def is_defined(module: str, name: str) -> bool:
    """Whether a module defines a name itself, in Python."""
    file = getattr(sys.modules[module], "__file__", None) or ""
    source = Path(file).read_text(encoding="utf-8") if file.endswith(".py") else ""
    return re.search(rf"^(?:class|def) {name}\b", source, re.MULTILINE) is not None


def show_in_both_modes(app: Any, doctree: nodes.document) -> None:
    """Add to each picture of a page that for the dark mode; the theme shows one of them."""
    for image in list(doctree.findall(nodes.image)):
        name = f"{Path(image['uri']).stem}-dark.svg"
        if (pictures.PICTURES / name).exists():
            dark = image.deepcopy()
            dark["uri"] = f"/_pictures/{name}"
            image["classes"].append("only-light")
            dark["classes"].append("only-dark")
            image.parent.insert(image.parent.index(image) + 1, dark)


def describe(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a page its first paragraph as the description that searches show."""
    first = next(iter(doctree.findall(nodes.paragraph)), None) if doctree else None
    if first is not None:
        text = textwrap.shorten(first.astext(), width=160, placeholder=" …")
        context["metatags"] += f'<meta name="description" content="{html.escape(text)}" />\n'


def setup(app: Any) -> None:
    """Draw the pictures before they are looked for, write formulas as MathML, and describe pages for searches."""
    app.connect("builder-inited", lambda _: pictures.draw_all())
    # Before Sphinx collects the pictures of a page.
    app.connect("doctree-read", show_in_both_modes, priority=400)
    app.connect("viewcode-follow-imported", find_source)
    app.connect("html-page-context", describe)
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("autodoc-skip-member", skip_fields)
    formulas.setup(app)
