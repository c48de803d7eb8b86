"""How the site is built: ``nox -s docs``. Nothing here needs a network."""

import io
import re
import sys
from contextlib import redirect_stdout
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.domains.python import PyObject
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from distinct_async.cli import main as command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sphinx.application import Sphinx
    from sphinx.domains.python import ObjectEntry
    from sphinx.environment import BuildEnvironment

project = "distinct-async"
author = "distinct-async contributors"
version = release = version_of(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

default_role = "py:obj"  # the single backticks of docstrings: a link where there is something to link to
nitpicky = True
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 100
python_display_short_literal_types = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "distinct-async"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["../distinct_async/testing/openapi.json"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e6e", "color-brand-content": "#0b6e6e"},
    "dark_css_variables": {"color-brand-primary": "#5cc8c2", "color-brand-content": "#5cc8c2"},
}


def found(
    app: "Sphinx", env: "BuildEnvironment", node: nodes.Element, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Return the link of a name that Sphinx did not find by itself; None, a warning and so an error, for our typos.

    Our own names are found by their last parts, wherever they are documented: `NotFoundError`, `Walk.resume`, and types
    by the modules they really live in. What others own, and a docstring's own words (`page_size`, `exp-1`), is no link.
    """
    if node.get("refdomain") != "py":
        return None
    told = str(node["reftarget"]).removesuffix("()")
    ours = told.startswith("distinct_async.")
    name = told.rpartition(".")[2] if ours and node["reftype"] != "obj" else told
    objects = {key: it for key, it in env.domains.python_domain.objects.items() if not it.aliased}
    fits = _ending_with(name, objects) or _ending_with(name.rpartition(".")[0], objects)  # `APIError.message`
    if len(fits) == 1 and (name[:1].isupper() or "." in name):
        target = objects[fits[0]]
        return make_refnode(app.builder, node["refdoc"], target.docname, target.node_id, contnode, fits[0])
    parts = told.split(".")
    if node["reftype"] == "obj":  # a word of a docstring: a parameter, a value, an attribute of what is described
        return contnode if not (ours or told[:1].isupper()) or not all(map(str.isidentifier, parts)) else None
    return contnode if not ours or name in SILENT else None


def _ending_with(name: str, objects: "Mapping[str, ObjectEntry]") -> list[str]:
    return [key for key in objects if name and f".{key}".endswith(f".{name}")]


# Type variables, and types that are told where they are used.
SILENT = {
    "Factory",
    "Missing",
    "OnDrift",
    "Progress",
    "T",
    "T_co",
    "TimeLimit",
    "Touchpoint",
    "Vendor",
    "Wire",
    "Wired",
}


def shown(  # Sphinx calls it
    _app: "Sphinx", what: str, _name: str, _thing: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Return the signature as a reader wants it: none for an exception, which is caught and not made."""
    if signature is None:
        return None
    return ("", None) if what == "exception" else (signature.replace("= nan", "= ..."), returns)


def line_by_line(_app: "Sphinx", _what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Give each field a line of its own; our docstrings put short ones side by side."""
    lines[:] = FIELD.sub("\n", "\n".join(lines)).split("\n")


FIELD = re.compile(r"(?<=[^\s]) (?=:(?:ivar|param|raises) \w+:)")


def as_here(_app: "Sphinx", docname: str, source: list[str]) -> None:
    """Turn what GitHub shows well into what shows better here: file names above code, drawings that know the theme."""
    text = FILE.sub(r"```{code-block} \1\n:caption: \2\n", source[0])
    text = DRAWING.sub(r":::{container} wide\n```{raw} html\n:file: \1\n```\n:::", text)
    folder = (HERE / docname).parent
    source[0] = PLOT.sub(lambda plot: plot[0] if (folder / plot[1]).exists() else "", text)


HERE = Path(__file__).parent
FILE = re.compile(r"^```(\w+) (\w+\.\w+)$", re.MULTILINE)
DRAWING = re.compile(r"^!\[.*\]\(([\w-]+\.svg)\)$", re.MULTILINE)
PLOT = re.compile(r"^!\[.*\]\((\.\./.+\.svg)\)$", re.MULTILINE)  # drawn by `python -m benchmarks plot`, or not yet


class Commands(SphinxDirective):
    """The help of each command, as the command itself tells it."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each."""
        names = re.findall(r"^│ (\w[\w-]*) ", help_of(), re.MULTILINE)
        return [self._section(name) for name in names]

    def _section(self, name: str) -> nodes.Node:
        title = nodes.title("", "", nodes.literal("", name))
        told = nodes.literal_block("", help_of(name), language="text")
        return nodes.section("", title, told, ids=[name], names=[name])


def help_of(*words: str) -> str:
    """What ``distinct-async ... --help`` prints, 80 columns wide."""
    argv, hook = sys.argv, sys.excepthook
    sys.argv = ["distinct-async", *words, "--help"]
    try:
        with redirect_stdout(io.StringIO()) as told:
            command()
    finally:
        sys.argv, sys.excepthook = argv, hook
    return told.getvalue()


def setup(app: "Sphinx") -> dict[str, Any]:
    """Hook all this in."""
    app.add_directive("commands", Commands)
    for field in PyObject.doc_field_types:
        field.label = "Attributes" if field.name == "variable" else field.label  # what ``:ivar x:`` tells
    app.connect("missing-reference", found)
    app.connect("autodoc-process-signature", shown)
    app.connect("autodoc-process-docstring", line_by_line)
    app.connect("source-read", as_here)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
