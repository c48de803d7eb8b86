"""Configuration of the site, which ``nox -s docs`` builds without a network."""

import io
import os
import re
import sys
import tomllib
from contextlib import redirect_stdout
from html import escape
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

autodoc_mock_imports = ["dlt", "pyspark"]  # too heavy for this session
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
# Version 1 of the format, a line of text for each name that we link, so that the site is built without a network.
# Copied from Debian's python3.11-doc and python-aiohttp-doc; to link another name, add its line.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.txt"),
    "aiohttp": ("https://docs.aiohttp.org/en/stable", "inventories/aiohttp.txt"),
}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

default_role = "py:obj"  # single backticks in docstrings: a link if there is a target
nitpicky = True
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 100
python_display_short_literal_types = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # "Attributes:" as a list of fields, not as entries beside those of autodoc

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"distinct-async {version}"
html_logo = html_favicon = "_static/logo.svg"
# Read the Docs sets it; the default is a placeholder until the site is public.
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "https://distinct-async.readthedocs.io/en/stable/")
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["../distinct_async/testing/openapi.json"]
html_copy_source = False
html_show_copyright = False
HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
html_theme_options = {
    "source_repository": PROJECT["urls"]["Repository"],
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {"color-brand-primary": "#0b6e6e", "color-brand-content": "#0b6e6e"},
    "dark_css_variables": {"color-brand-primary": "#5cc8c2", "color-brand-content": "#5cc8c2"},
}


def resolve_reference(
    app: "Sphinx", env: "BuildEnvironment", node: nodes.Element, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a name that Sphinx did not find, or return None, which is a warning and therefore an error.

    Names of this package are found by their last parts, for example `NotFoundError` or `Walk.resume`, and types by the
    module that defines them. Parameters, values (`page_size`, `exp-1`) and names of other packages become plain text,
    unless intersphinx has linked them.
    """
    if node.get("refdomain") != "py":
        return None
    target_name = str(node["reftarget"]).removesuffix("()")
    internal = target_name.startswith("distinct_async.")
    name = target_name.rpartition(".")[2] if internal and node["reftype"] != "obj" else target_name
    objects = {key: it for key, it in env.domains.python_domain.objects.items() if not it.aliased}
    matches = _ending_with(name, objects) or _ending_with(name.rpartition(".")[0], objects)  # `APIError.message`
    if len(matches) == 1 and (name[:1].isupper() or "." in name):
        target = objects[matches[0]]
        return make_refnode(app.builder, node["refdoc"], target.docname, target.node_id, contnode, matches[0])
    parts = target_name.split(".")
    if node["reftype"] == "obj":  # single backticks in a docstring: a parameter, a value, an attribute
        return (
            contnode if not (internal or target_name[:1].isupper()) or not all(map(str.isidentifier, parts)) else None
        )
    return contnode if not internal or name in UNDOCUMENTED else None


def _ending_with(name: str, objects: "Mapping[str, ObjectEntry]") -> list[str]:
    return [key for key in objects if name and f".{key}".endswith(f".{name}")]


# Type variables, and types that are described with the arguments that use them.
UNDOCUMENTED = {"ClientSettings", "ListKey", "Question", "T_co", "Touchpoint", "Unset", "WireModel"}


def process_signature(
    _app: "Sphinx", what: str, _name: str, _thing: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Return the signature to show; none for an exception, which users catch but do not create."""
    if signature is None:
        return None
    if what == "exception":
        return "", None
    signature = CLASS.sub(r"\1", signature).replace("= <not given>", "= ...").replace(": ~P", "")
    return signature, returns


CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>")  # a default; Sphinx sets no signature that it cannot parse


def process_docstring(
    _app: "Sphinx", _what: str, _name: str, _thing: object, _options: object, lines: list[str]
) -> None:
    """Show the last part of each type's name, and link the numbers of what the vendors leave open."""
    for number, line in enumerate(lines):
        text = NAME.sub(r"~\1", line) if line.startswith(":vartype ") else line
        lines[number] = LEFT_OPEN.sub(r":doc:`\1 </explanation/vendors>`", text)


NAME = re.compile(r"(?<![\w.~])((?:\w+\.)+\w+)")
LEFT_OPEN = re.compile(r"docs/explanation/vendors\.md, ([AB]\d+)")


def adapt_markdown(_app: "Sphinx", _docname: str, source: list[str]) -> None:
    """Adapt what is written for GitHub: captions of code blocks, themed drawings, an install that works today."""
    text = FILE.sub(r"```{code-block} \1\n:caption: \2\n", source[0])
    if not RELEASED:
        text = INSTALL.sub(r'\1".\2"\3   # in a clone: not on PyPI yet', text)
    source[0] = DRAWING.sub(r"```{raw} html\n:file: \1\n```", text)


# The README is the one place that says so.
RELEASED = "not on PyPI yet" not in (HERE.parent / "README.md").read_text(encoding="utf-8")
INSTALL = re.compile(r'^(python -m pip install )"?distinct-async(\[[\w,]+\]|)"?(.*?)(?: +#.*)?$', re.MULTILINE)
FILE = re.compile(r"^```(\w+) (\w+\.\w+)$", re.MULTILINE)
DRAWING = re.compile(r"^!\[.*\]\(((?:\.\./)*[\w-]+\.svg)\)$", re.MULTILINE)  # in the page, it follows the theme


class Commands(SphinxDirective):
    """The output of ``--help`` of each command."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each command."""
        names = re.findall(r"^│ (\w[\w-]*) ", help_of(), re.MULTILINE)
        return [self._section(name) for name in names]

    def _section(self, name: str) -> nodes.Node:
        title = nodes.title("", "", nodes.literal("", name))
        output = nodes.literal_block("", help_of(name), language="text")
        return nodes.section("", title, output, ids=[name], names=[name])


def help_of(*words: str) -> str:
    """Return the output of ``distinct-async ... --help``, 80 columns wide."""
    argv, hook = sys.argv, sys.excepthook
    sys.argv = ["distinct-async", *words, "--help"]
    try:
        with redirect_stdout(io.StringIO()) as output:
            command()
    finally:
        sys.argv, sys.excepthook = argv, hook
    return output.getvalue()


DESCRIPTIONS: dict[str, tuple[str, str]] = {}  # title and first paragraph of each page


def describe_page(
    app: "Sphinx", page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add the description of a page for search engines and link previews: its first paragraph."""
    if doctree is None:
        return
    first = next((node.astext() for node in doctree.findall(nodes.paragraph)), "")
    text = " ".join(first.split())
    text = text if len(text) <= LONGEST else text[:LONGEST].rpartition(" ")[0] + " ..."
    title = re.sub("<.*?>", "", str(context["title"]))
    DESCRIPTIONS[page] = title, text
    url = f"{app.config.html_baseurl}{page}.html"
    tags = {"og:title": title, "og:description": text, "og:type": "website", "og:url": url}
    tags["og:site_name"] = project
    lines = [f'<meta name="description" content="{escape(text)}"/>']
    lines += [f'<meta property="{name}" content="{escape(content)}"/>' for name, content in tags.items()]
    if page == "404":  # it is shown at any address
        lines.append(f'<base href="{escape(app.config.html_baseurl)}"/>')
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


LONGEST = 160


def list_pages(app: "Sphinx", error: Exception | None) -> None:
    """Write the site's pages for search engines (``sitemap.xml``) and for language models (``llms.txt``)."""
    if error or app.builder.name != "html":
        return
    pages = {name: each for name, each in sorted(DESCRIPTIONS.items()) if name != "404"}
    urls = {name: f"{app.config.html_baseurl}{name}.html" for name in pages}
    sitemap = "".join(f"<url><loc>{url}</loc></url>\n" for url in urls.values())
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    text = "".join(f"- [{title}]({urls[name]}): {first}\n" for name, (title, first) in pages.items())
    out = Path(app.outdir)
    (out / "sitemap.xml").write_text(f"{head}{sitemap}</urlset>\n", encoding="utf-8")
    (out / "llms.txt").write_text(f"# {project}\n\n> {PROJECT['description']}\n\n{text}", encoding="utf-8")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extensions of this file."""
    app.add_directive("commands", Commands)
    for field in PyObject.doc_field_types:
        field.label = "Attributes" if field.name == "variable" else field.label  # the label of ``:ivar x:``
    app.connect("missing-reference", resolve_reference)
    app.connect("autodoc-process-signature", process_signature)
    app.connect("autodoc-process-docstring", process_docstring, priority=600)  # after napoleon
    app.connect("source-read", adapt_markdown)
    app.connect("html-page-context", describe_page)
    app.connect("build-finished", list_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
