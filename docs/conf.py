"""How the documentation is built: ``sphinx-build -W docs docs/_build``."""

import dataclasses
import re
from importlib.metadata import version as version_of
from typing import Any

from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import make_refnode

import aioh2

project = "aioh2"
author = "the aioh2 contributors"
copyright = author
release = version_of("aioh2")

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"aioh2 {release}"

autodoc_member_order = "bysource"
# Defaults and types as they are written.
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("HeaderInput", "HeaderList")}
python_use_unqualified_type_names = True
add_module_names = False
# Of a signature that is longer than this, each parameter has a line.
maximum_signature_line_length = 80

# Every name that is marked as one has to lead somewhere. Nothing is fetched, so those of others
# lead nowhere; nor do those of aioh2 that nobody needs to name.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(_?asyncio|collections|enum|h2|hpack|hyperframe|socket|ssl|types|typing)\..*"),
    ("py:class", r"aioh2\.(client\.Connecting|protocol\._Opening|testing\.pair\.Pair)"),
    # variables of types, and an alias of typing's Buffer
    ("py:class", r"(aioh2\..*\.)?(BytesLike|Frame|FrameT|P|ProtocolT|ProtocolT_co|T)"),
]

# The options, by name.
DEFAULTS = {field.name: field for field in dataclasses.fields(aioh2.Config)}


def find_public(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Lead a name of a module of aioh2, as annotations have it, to that of the package."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    found = env.get_domain("py").objects.get(f"aioh2.{name}")
    if found is None or not (module == "" or module.startswith("aioh2")):
        return None
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content)


def name_aliases(
    app: Any, what: str, name: str, obj: object, options: Any, arguments: Any, returned: Any
) -> tuple[Any, Any]:
    """Write an alias within another type as its name, where autodoc has its own class's."""

    def named(text: str | None) -> str | None:
        return text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)

    return named(arguments), named(returned)


def add_range(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Say at each option of ``Config`` its default, and what it may be, in its error's words."""
    option = DEFAULTS.get(name.removeprefix("aioh2.Config."))
    if option is None or not name.startswith("aioh2.Config."):
        return
    try:
        aioh2.Config(**{option.name: object()})
    except TypeError as error:
        found = re.search("must be (?:an int )?(.+), not <object", str(error))
        assert found is not None
        lines += ["", f"Default: ``{option.default!r}``. May be {found[1]}."]


def setup(app: Any) -> None:
    """Sphinx calls this."""
    # its functions have one signature on their page, not those for type checkers
    analyzer = ModuleAnalyzer.for_module("aioh2.client")
    analyzer.analyze()
    analyzer.overloads.clear()
    app.connect("missing-reference", find_public)
    app.connect("autodoc-process-docstring", add_range)
    app.connect("autodoc-process-signature", name_aliases)
