"""How Sphinx builds these pages: `make docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import pgflow_starter  # noqa: E402 - found by the path above

project = "pgflow_starter"
author = "The pgflow_starter authors"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = pgflow_starter.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "public_names", "generated_tables"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"pgflow_starter {version}"
html_copy_source = False
html_show_sphinx = False
smartquotes = False  # what is an option shall stay one
pygments_style = "friendly"
pygments_dark_style = "github-dark"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

# Nothing is fetched while building, so what others document has no link.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|contextlib|datetime|enum|logging|pathlib|threading|types|typing|uuid|pykka)(\..*)?"),
    ("py:.*", r"(Callable|Iterable|UUID|Handler|(.*\.)?Payload)"),
    ("py:.*", r".*\.(Handler|H|AnyRun|In|Input|Out|Message|Output|JobDecorator)"),
]
