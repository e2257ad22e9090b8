"""Sphinx's settings for the site: `make site`. The sources are the pages as the repository has them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "muybridge"
author = "The muybridge authors"
project_copyright = author
extensions = ["myst_nb", "sphinx_copybutton", "pages"]

root_doc = "docs/index"
include_patterns = ["*.md", "docs/[!/]*.md", "docs/**/*.md", "docs/*.ipynb", "docs/**/*.ipynb", "parity/README.md"]
exclude_patterns = ["docs/site", "build", "dist", "src", "tests", "runs", "demo*", ".*", "**/.ipynb_checkpoints"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

nb_execution_mode = "off"
myst_heading_anchors = 4
highlight_language = "text"
smartquotes = False  # which would make one dash of the two of an option
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = "muybridge"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_search_scorer = str(Path(__file__).parent / "scorer.js")
templates_path = ["templates"]
html_additional_pages = {"index": "start.html"}
html_copy_source = False
html_show_sphinx = False
html_permalinks_icon = "#"
