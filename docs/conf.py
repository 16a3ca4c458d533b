"""Sphinx configuration. Build with ``nox -s docs``; a warning is an error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

from ray._version import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "ray"
author = "The ray authors"
copyright = "The ray authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]

exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ray {release}"
html_static_path = ["_static"]
html_css_files = ["ray.css"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


class Drawings(SphinxPostTransform):
    """Puts drawings into the page itself, where they take its colours, light or dark; elsewhere they are images."""

    default_priority = 0  # before images are collected
    formats = ("html",)

    def run(self, **_: object) -> None:
        for image in list(self.document.findall(nodes.image)):
            path = (Path(self.env.doc2path(self.env.docname)).parent / image["uri"]).resolve()
            if not path.is_file():
                path = Path(self.app.srcdir, image["uri"]).resolve()
            if path.suffix == ".svg" and path.is_file() and "data-alone" in (text := path.read_text()):
                text = text.replace(' data-alone=""', "")
                image.replace_self(nodes.raw("", f'<figure class="drawing">{text}</figure>', format="html"))


def setup(app: Sphinx) -> None:
    app.add_post_transform(Drawings)
