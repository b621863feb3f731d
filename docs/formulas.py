"""Formulas as MathML: browsers draw it themselves, so that pages load no script and no font for it.

docutils translates the LaTeX. MathJax, the default of Sphinx, would be fetched from another server by each reader.
"""

from __future__ import annotations

import html
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def mathml(source: str, *, display: bool) -> str:
    """Translate a formula; its source stays inside as the text to copy and to read aloud."""
    written = tex2mathml(source, as_block=display)
    return written.replace("<math", f'<math aria-label="{html.escape(source.strip())}"', 1)


def visit_inline(writer: Any, node: nodes.math) -> None:
    """Write a formula in a line."""
    writer.body.append(f'<span class="math">{mathml(node.astext(), display=False)}</span>')
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula that stands alone."""
    writer.body.append(f'<div class="math">{mathml(node.astext(), display=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Make this the writer of formulas."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
