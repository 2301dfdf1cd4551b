"""The site: pages of this folder, generated fragments, notebooks with their stored outputs.

Nothing is executed and nothing is fetched: formulas become MathML here, themes bring their files.
"""

import sys
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.utils.math import latex2mathml

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "benchmarks")]

import docstrings  # noqa: E402
import generate  # noqa: E402

_about = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
generate.write_all(HERE / "_generated")

project = "Private, fair and accurate"
author = "The private-fair-accurate developers"
version = release = _about["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_generated/*.md"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "substitution", "deflist", "colon_fence"]
myst_substitutions = generate.numbers()
myst_heading_anchors = 3

default_role = "code"
napoleon_custom_sections = [("Guarantees", "params_style"), ("Source", "params_style")]
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True

html_theme = "sphinx_book_theme"
html_title = f"Private, fair and accurate {version}"
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "navbar_persistent": [],
}
html_context = {
    "default_mode": "auto"
}  # light or dark, as the reader's system; unset, the console complains
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_search_summary = False  # they are fetched, which browsers refuse to files
html_math_renderer = "mathml"


def _read_docstring(app, what, name, obj, options, lines):
    lines[:] = docstrings.for_sphinx(lines)


def _skip_member(app, what, name, obj, skip, options):
    return skip or str(getattr(obj, "__doc__", "")).startswith("Alias for field number")


def _inline_formula(writer, node):
    writer.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def _displayed_formula(writer, node):
    writer.body.append(latex2mathml.tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app):
    """Add the formulas and the docstrings' form."""
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_displayed_formula, None))
    app.connect("autodoc-process-docstring", _read_docstring, priority=400)
    app.connect("autodoc-skip-member", _skip_member)
