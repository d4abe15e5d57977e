"""How Sphinx builds these pages: sphinx-build -W -b html docs OUT."""

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

# This checkout, wherever the installed package comes from.
sys.path.insert(0, str(Path(__file__).parents[1]))

import click
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

from parity.cli import cli

project = "parity"
release = metadata.version("parity")
html_title = f"parity {release}"
copyright = "the authors of parity"  # noqa: A001  Sphinx' name for it

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

smartquotes = False  # -- is how options begin

html_theme = "furo"
html_math_renderer = "mathml"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["parity.css"]
# Only commands and Python are copied: no prompts, no output.
copybutton_prompt_text = "$ "
copybutton_selector = (
    "div.highlight-python pre, div.highlight-console pre, div.highlight-yaml pre, div.highlight-toml pre"
)

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# In the docstrings `this` is code.
default_role = "code"


# What a signature names and these pages do not describe: other projects' types (building needs no network), and the
# rooms behind the public names.
nitpick_ignore_regex = [
    ("py:class", r"(collections|jax|numpy|optax|pathlib|torch)\..*"),
    ("py:class", r"parity\.(compare|conformance|environment|explain|running)\..*"),
    ("py:class", r"parity\.contract\.implementation\.\w+T(_contra)?"),
    ("py:class", r"(torch_impl|jax_impl)\.(adapt|formulation)\..*"),
]

# The project's docstrings give types in signatures alone: a colon in prose separates no type from its meaning.
GoogleDocstring._parse_attribute_docstring = lambda self: self._consume_to_end()  # noqa: SLF001
GoogleDocstring._consume_returns_section = lambda self, **_: [("", "", self._dedent(self._consume_to_next_section()))]  # noqa: SLF001

_MARKUP = re.compile(r"(`[^`]*`)|([*|])")


def escape(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """In the docstrings |x| is a norm and * a product, outside of code."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = _MARKUP.sub(lambda found: found[1] or "\\" + found[2], line)


_ARRAY = re.compile(r"~numpy\.ndarray\[tuple\[(?:~typing\.)?Any, \.\.\.\], ~numpy\.dtype\[([^\]]*)\]\]")


def shorten(  # what Sphinx hands over
    _app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """An array of any shape as it is written: NDArray[...]."""
    written = r"~numpy.typing.NDArray[\1]"
    return signature and _ARRAY.sub(written, signature), returned and _ARRAY.sub(written, returned)


_EXAMPLE = re.compile(r"^Example: (.+)$")


def mark_example(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """A command's example is code."""
    lines[:] = [_EXAMPLE.sub(r"Example: ``\1``", line) for line in lines]


def show_defaults(group: click.Group) -> None:
    """As `--help` does, where the context says so."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            show_defaults(command)
        for option in command.params:
            if isinstance(option, click.Option) and option.show_default is None and not option.is_flag:
                option.show_default = True


def inline_math(writer: Any, node: nodes.Element) -> None:
    """MathML, which browsers draw themselves: nothing is loaded from anywhere."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed_math(writer: Any, node: nodes.Element) -> None:
    """A formula in a line of its own."""
    writer.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect the above; `escape` before napoleon, which is connected at 500."""
    app.connect("autodoc-process-docstring", escape, priority=400)
    app.connect("autodoc-process-signature", shorten)
    app.connect("sphinx-click-process-description", mark_example)
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
    show_defaults(cli)
