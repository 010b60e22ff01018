"""How the documentation is built: ``sphinx-build -W docs docs/_build``."""

from importlib.metadata import version as version_of

project = "aioh2"
author = "the aioh2 contributors"
copyright = author
release = version_of("aioh2")

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
autodoc_member_order = "bysource"
