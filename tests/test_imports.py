"""The order of the rooms, what they import at run time, what is public, and what of h2 is private.

All of it is read from the sources or asked of the installed packages, so that a new room, a new
name or a new release of h2 cannot slip in unseen.
"""

from __future__ import annotations

import ast
import collections
import fnmatch
import importlib
import importlib.metadata
import inspect
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tokenize
import tomllib
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import h2.connection
import h2.settings
import h2.stream
import h2.windows
import hpack
import hpack.table
import priority
from h2.config import H2Configuration

import aioh2
import aioh2.codec
import aioh2.connection
import aioh2.exceptions
import aioh2.machines
import aioh2.scheduler

REPOSITORY = pathlib.Path(__file__).parents[1]
FOLDER = pathlib.Path(aioh2.__file__).parent


def room_of(path: pathlib.Path) -> str:
    """Return what a file is called here: dotted below a package, which is its ``__init__``."""
    *packages, name = path.relative_to(FOLDER).with_suffix("").parts
    return ".".join(packages if packages and name == "__init__" else [*packages, name])


SOURCES = {room_of(path): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py")}
#: The packages inside of the package.
PACKAGES = {room_of(path.parent / "__init__.py") for path in FOLDER.glob("*/__init__.py")}

#: The rooms from the lowest to the highest: one imports from those in lower rows only.
ORDER = (
    {"exceptions"},
    {"config"},
    {"headers", "flow", "guards", "health", "scheduler", "codec", "slots", "timeouts"},
    {"frames", "machines", "body", "tap"},
    {"connection"},
    {"stream"},
    {"sender", "handlers", "pings", "watchdog", "tunnel"},
    {"intake", "table", "closing", "greeting", "priorities"},
    {"opener"},
    {"driver"},
    {"protocol"},
    {"client", "server"},
    {"testing.loop", "testing.transports", "testing.leaks"},
    {"testing.peer", "testing.pair"},
    {"testing"},
    {"cli.exits"},
    {"cli.urls"},
    {"cli.connecting"},
    {"cli.exchange"},
    {"cli.terminal"},
    {"cli.watching", "cli.recording"},
    {"cli.get", "cli.info", "cli.ping", "cli.serve", "cli.trace"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}
#: The package itself hands out what is public: it may import any room, and no room imports it.
PACKAGE = "__init__"

DEPENDENCIES = {"h2", "hpack", "hyperframe", "priority"}
#: What a room uses where it is installed: the extras.
EXTRAS = {"cli.terminal": {"rich"}}

#: What the design calls public, by the room where it is.
PUBLIC = {
    "client": {"open_connection", "open_unix_connection"},
    "server": {"Server", "start_server", "start_unix_server"},
    "protocol": {"Drained", "H2Protocol"},
    "stream": {"H2Stream"},
    "scheduler": {"Priority"},
    "handlers": {"current_stream"},
    "headers": {"HeaderInput", "HeaderList"},
    "config": {"Config"},
    "exceptions": {
        "AIOH2Exception",
        "ConnectionClosed",
        "HandshakeError",
        "NotSupported",
        "SendException",
        "StreamClosed",
        "StreamReset",
    },
}


# --- imports -------------------------------------------------------------------------------


def imports(source: str, room: str = "") -> Iterator[tuple[str, bool]]:
    """Every module that ``source``, of ``room``, imports, in functions and for types too.

    Yields rooms as ``".name"`` and other packages by their first name, and whether it is an
    import at run time.
    """
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, room)
            whole = node.module is None or module == "aioh2"
            names = [f"{module.rstrip('.')}.{a.name}" for a in node.names] if whole else [module]
        else:
            continue
        for name in names:
            yield _room_or_package(name), id(node) not in for_types


def _absolute(node: ast.ImportFrom, name: str) -> str:
    """Return the module's name; within the package with a point before it."""
    if not node.level:
        return node.module or ""
    parts = name.split(".") if name in PACKAGES else name.split(".")[:-1]
    base = ["", *parts][: 1 + len(parts) - (node.level - 1)]
    return ".".join([*base, *([node.module] if node.module else [])]) or "."


def _room_or_package(name: str) -> str:
    first, _, rest = name.partition(".")
    if first not in ("", "aioh2"):
        return first
    for room in (".".join(rest.split(".")[:2]), rest.partition(".")[0]):
        if room in SOURCES or room in RANK:
            return f".{room}"
    return f".{PACKAGE}"


class TestArrows(unittest.TestCase):
    def test_every_module_has_its_place(self) -> None:
        """Whoever adds a room has to say between which others it stands."""
        self.assertEqual(sorted(SOURCES.keys() - RANK.keys() - {PACKAGE}), [])

    def test_every_room_has_one_place(self) -> None:
        self.assertEqual(len(RANK), sum(len(row) for row in ORDER))

    def test_imports_run_one_way(self) -> None:
        for name, source in SOURCES.items():
            targets = {room[1:] for room, _ in imports(source, name) if room.startswith(".")}
            for target in targets:
                if name in RANK and target in RANK:
                    with self.subTest(f"{name} imports {target}"):
                        self.assertLess(RANK[target], RANK[name])

    def test_no_room_imports_the_package(self) -> None:
        for name, source in SOURCES.items():
            with self.subTest(name):
                self.assertNotIn(f".{PACKAGE}", {room for room, _ in imports(source, name)})

    def test_how_imports_are_read(self) -> None:
        for source, expected in [
            ("import os.path", {("os", True)}),
            ("import h2.events as events, asyncio", {("h2", True), ("asyncio", True)}),
            ("from h2.errors import ErrorCodes", {("h2", True)}),
            ("from .flow import ReceiveWindow", {(".flow", True)}),
            ("from . import flow, headers", {(".flow", True), (".headers", True)}),
            ("from . import H2Protocol", {(".__init__", True)}),
            ("import aioh2", {(".__init__", True)}),
            ("import aioh2.flow", {(".flow", True)}),
            ("from aioh2 import flow", {(".flow", True)}),
            ("from aioh2 import H2Protocol", {(".__init__", True)}),
            ("from aioh2.flow import ReceiveWindow", {(".flow", True)}),
            ("def f():\n    from .flow import ReceiveWindow", {(".flow", True)}),
            ("if TYPE_CHECKING:\n    from .flow import ReceiveWindow", {(".flow", False)}),
            (
                "if typing.TYPE_CHECKING:\n    import foo\nelse:\n    import bar",
                {("foo", False), ("bar", True)},
            ),
        ]:
            with self.subTest(source):
                self.assertEqual({*imports(source)}, expected)

    def test_how_imports_are_read_in_a_package(self) -> None:
        for source, name, expected in [
            ("from ..protocol import H2Protocol", "testing.peer", ".protocol"),
            ("from .transports import connect", "testing.peer", ".testing.transports"),
            ("from . import transports", "testing.peer", ".testing.transports"),
            ("from .transports import connect", "testing", ".testing.transports"),
            ("from .. import flow", "testing.peer", ".flow"),
            ("from .. import H2Protocol", "testing.peer", ".__init__"),
            ("from aioh2.testing.peer import ScriptedPeer", "server", ".testing.peer"),
            ("from .testing import ScriptedPeer", "server", ".testing"),
        ]:
            with self.subTest(source, name=name):
                self.assertEqual({*imports(source, name)}, {(expected, True)})


class TestRunTime(unittest.TestCase):
    def test_only_what_is_declared_is_imported(self) -> None:
        for name, source in SOURCES.items():
            allowed = DEPENDENCIES | sys.stdlib_module_names | EXTRAS.get(name, set())
            for module in {module for module, runs in imports(source, name) if runs}:
                if not module.startswith("."):
                    with self.subTest(f"{name} imports {module}"):
                        self.assertTrue(module in allowed, f"{module} is not declared")

    def test_only_what_is_declared_is_loaded(self) -> None:
        """In a process of its own, where no test has loaded anything."""
        script = (
            "import importlib, json, sys; before = {*sys.modules}\n"
            f"for name in {sorted(SOURCES)!r}: importlib.import_module(f'aioh2.{{name}}')\n"
            "print(json.dumps([*{name.partition('.')[0] for name in {*sys.modules} - before}]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
            stdout=subprocess.PIPE,
            check=True,
        )
        loaded = {*json.loads(done.stdout)} - sys.stdlib_module_names
        self.assertEqual(loaded, {"aioh2", *DEPENDENCIES})

    def test_the_declared_dependencies_are_these(self) -> None:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
        names = {re.split(r"[^a-z0-9]", line)[0] for line in project["project"]["dependencies"]}
        self.assertEqual(names, DEPENDENCIES)


# --- what is public ------------------------------------------------------------------------


class TestPublic(unittest.TestCase):
    def test_all_is_sorted_and_without_repetition(self) -> None:
        self.assertEqual(aioh2.__all__, sorted({*aioh2.__all__}))

    def test_every_name_can_be_imported(self) -> None:
        for name in aioh2.__all__:
            with self.subTest(name):
                self.assertTrue(hasattr(aioh2, name))

    def test_what_the_design_names_is_there(self) -> None:
        for room, names in PUBLIC.items():
            module = importlib.import_module(f"aioh2.{room}")
            for name in sorted(names):
                with self.subTest(name):
                    self.assertIn(name, aioh2.__all__)
                    self.assertIs(getattr(aioh2, name), getattr(module, name))

    def test_every_error_is_public(self) -> None:
        errors = {
            name
            for name, value in vars(aioh2.exceptions).items()
            if isinstance(value, type) and issubclass(value, Exception)
        }
        self.assertLessEqual(errors, {*aioh2.__all__})

    def test_a_room_that_hands_something_out_calls_it_public_itself(self) -> None:
        for node in ast.walk(ast.parse(SOURCES[PACKAGE])):
            if isinstance(node, ast.ImportFrom) and node.level:
                module = importlib.import_module(f"aioh2.{node.module}")
                for alias in node.names:
                    with self.subTest(f"{node.module}.{alias.name}"):
                        self.assertIn(alias.name, module.__all__)

    def test_every_room_says_what_is_its_own(self) -> None:
        for name in SOURCES.keys() - {PACKAGE}:
            module = importlib.import_module(f"aioh2.{name}")
            with self.subTest(name):
                for public in module.__all__:
                    self.assertTrue(hasattr(module, public), public)


# --- what is private to others ------------------------------------------------------------

Kind = type | types.UnionType | tuple[str, ...]

#: The private names that are relied on: the class that has them, and what each is there,
#: the names of a method's parameters or the type of an attribute.
PRIVATE: dict[type | types.ModuleType, dict[str, Kind]] = {
    h2.connection.H2Connection: {
        "_acknowledge_settings": (),
        "_begin_new_stream": ("stream_id", "allowed_ids"),
        "_closed_streams": dict,
        "_data_to_send": bytearray,
        "_frame_dispatch_table": dict,
        "_get_or_create_stream": ("stream_id", "allowed_ids"),
        "_inbound_flow_control_window_manager": h2.windows.WindowManager,
        "_local_settings_acked": (),
        "_open_streams": ("remainder",),
        "_prepare_for_sending": ("frames",),
        "_receive_data_frame": ("frame",),
        "_receive_frame": ("frame",),
        "_receive_goaway_frame": ("frame",),
        "_receive_headers_frame": ("frame",),
        "_receive_naked_continuation": ("frame",),
        "_receive_priority_frame": ("frame",),
        "_receive_push_promise_frame": ("frame",),
        "_receive_rst_stream_frame": ("frame",),
        "_receive_settings_frame": ("frame",),
        "_receive_window_update_frame": ("frame",),
        "_stream_closed_by": ("stream_id",),
        "_receive_unknown_frame": ("frame",),
        "_terminate_connection": ("error_code",),
    },
    h2.settings.Settings: {"_settings": dict},
    h2.stream: {"_transitions": dict},
    h2.stream.H2Stream: {
        "_actual_content_length": int,
        "_authority": bytes | None,
        "_expected_content_length": int | None,
        "_inbound_window_manager": h2.windows.WindowManager,
    },
    hpack.Decoder: {
        "_assert_valid_table_size": (),
        "_decode_indexed": ("data",),
        "_update_encoding_context": ("data",),
    },
    hpack.Encoder: {"_encode_table_size_change": ()},
    hpack.table.HeaderTable: {"_current_size": int, "_maxsize": int},
    priority.PriorityTree: {"_streams": dict},
}
MAKERS: dict[type, Callable[[], object]] = {
    h2.connection.H2Connection: lambda: h2.connection.H2Connection(H2Configuration()),
    h2.stream.H2Stream: lambda: h2.stream.H2Stream(1, H2Configuration(), 65_535, 65_535),
    hpack.table.HeaderTable: hpack.table.HeaderTable,
}
PRIVATE_NAMES = {name for names in PRIVATE.values() for name in names}
#: The rooms that may rely on such: of h2, of hpack, of priority.
INSIDERS = {
    "connection": aioh2.connection,
    "machines": aioh2.machines,
    "codec": aioh2.codec,
    "scheduler": aioh2.scheduler,
}


#: What every NamedTuple has: documented, with a name that keeps clear of the fields'.
OF_NAMED_TUPLES = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}


def is_private(name: str) -> bool:
    """Whether a name is; ``_value_`` and the like are enum's documented ones."""
    return name.startswith("_") and not name.endswith("_") and name not in OF_NAMED_TUPLES


def names_made_in(source: str) -> set[str]:
    """The private names that ``source`` defines, of modules and classes, or sets on ``self``."""
    tree, made = ast.parse(source), set[str]()
    assigned = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for part in ast.walk(target)
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            made.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and id(node) in assigned:
            if isinstance(node, ast.Name):
                made.add(node.id)
            elif ast.unparse(node.value) == "self":
                made.add(node.attr)
    return {name for name in made if is_private(name)}


def names_used_in(source: str, *, of_self: bool) -> set[str]:
    """The private names that ``source`` asks ``self`` for, or any other object."""
    asked = set[str]()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=owner, attr=name):
                pass
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr"),
                args=[owner, ast.Constant(value=str(name)), *_],
            ):
                pass
            case _:
                continue
        if is_private(name) and (ast.unparse(owner) == "self") is of_self:
            asked.add(name)
    return asked


def names_overridden_in(module: Any) -> set[str]:
    """The private names of other packages that classes of ``module`` have made their own."""
    overridden = set[str]()
    for kind in vars(module).values():
        if not isinstance(kind, type) or kind.__module__ != module.__name__:
            continue
        for base in kind.__mro__[1:]:
            if base.__module__.partition(".")[0] in DEPENDENCIES:
                theirs = {*vars(base), *vars(MAKERS[base]() if base in MAKERS else base)}
                overridden |= theirs & names_made_in(inspect.getsource(kind))
    return overridden


def documented_in(source: str) -> list[str]:
    """The private names, or patterns of them, in the comments and docstrings of ``source``."""
    text = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented):
            text.append(ast.get_docstring(node) or "")
    return re.findall(r"(?<![a-z0-9])_[a-z_*]+", "\n".join(text))


#: Private names of asyncio that a room uses. closing: whether the transport below TLS has written
#: all; test_server.py has a test with real TLS that fails without it.
OF_ASYNCIO = {"closing": {"_ssl_protocol"}}


class TestPrivateNames(unittest.TestCase):
    def test_the_installed_release_has_them(self) -> None:
        for owner, names in PRIVATE.items():
            is_module = isinstance(owner, types.ModuleType)
            instance: Any = owner if is_module else MAKERS.get(owner, owner)()
            package = (owner.__name__ if is_module else owner.__module__).partition(".")[0]
            release = f"{package} {importlib.metadata.version(package)}"
            for name, kind in names.items():
                where = f"{release}: {owner.__name__}.{name}"
                with self.subTest(where):
                    self.assertTrue(hasattr(instance, name), f"{where} is gone")
                    found = getattr(instance, name)
                    if not isinstance(kind, tuple):
                        self.assertIsInstance(found, kind, f"{where} has another type")
                    else:
                        self.assertTrue(inspect.ismethod(found), f"{where} is no method")
                        self.assertEqual(
                            tuple(inspect.signature(found).parameters),
                            kind,
                            f"{where} has other parameters",
                        )

    def test_transitions_map_a_state_and_an_input_to_a_function_and_a_state(self) -> None:
        """Of a stream; what is missing is not allowed."""
        state, given = h2.stream.StreamState, h2.stream.StreamInputs
        for (before, input_), (function, after) in h2.stream._transitions.items():
            self.assertIsInstance(before, state)
            self.assertIsInstance(input_, given)
            self.assertTrue(function is None or callable(function))
            self.assertIsInstance(after, state)
        step = h2.stream._transitions[state.IDLE, given.SEND_HEADERS]
        self.assertEqual(step, (h2.stream.H2StreamStateMachine.request_sent, state.OPEN))

    def test_how_uses_are_read(self) -> None:
        for source, of_self, of_others in (
            ("self._a", {"_a"}, set()),
            ("x._a.b", set(), {"_a"}),
            ("self.x._a", set(), {"_a"}),
            ("getattr(x.y, '_a', None)", set(), {"_a"}),
            ("hasattr(self, '_a')", {"_a"}, set()),
            ("x.a, x._value_, x._replace(a=1), getattr(x, 'a'), getattr(x, y)", set(), set()),
        ):
            with self.subTest(source):
                self.assertEqual(names_used_in(source, of_self=True), of_self)
                self.assertEqual(names_used_in(source, of_self=False), of_others)

    def test_settings_are_queues_with_the_value_in_force_first(self) -> None:
        settings = h2.settings.Settings(initial_values={h2.settings.SettingCodes.ENABLE_PUSH: 1})
        for queue in settings._settings.values():
            self.assertIsInstance(queue, collections.deque)
        settings[h2.settings.SettingCodes.ENABLE_PUSH] = 0
        self.assertEqual([*settings._settings[h2.settings.SettingCodes.ENABLE_PUSH]], [1, 0])

    def test_frames_are_dispatched_to_methods_that_can_be_overridden(self) -> None:
        connection = aioh2.connection.Connection(H2Configuration())
        for frame, method in connection._frame_dispatch_table.items():
            with self.subTest(frame.__name__):
                self.assertEqual(method, getattr(connection, method.__name__))

    def test_the_table_above_is_what_is_used(self) -> None:
        used = set[str]()
        for name, module in INSIDERS.items():
            made = names_made_in(SOURCES[name])
            for of_self in (True, False):
                used |= names_used_in(SOURCES[name], of_self=of_self) - made
            used |= names_overridden_in(module)
        self.assertEqual(sorted(used - PRIVATE_NAMES), [], "used, and not in the table")
        self.assertEqual(sorted(PRIVATE_NAMES - used), [], "in the table, and not used any more")

    def test_each_has_a_word_on_what_is_relied_on(self) -> None:
        words = [word for name in INSIDERS for word in documented_in(SOURCES[name])]
        for name in sorted(PRIVATE_NAMES):
            with self.subTest(name):
                self.assertTrue(
                    any(fnmatch.fnmatchcase(name, word) for word in words),
                    f"neither a comment nor a docstring names {name}",
                )

    def test_no_other_room_uses_any(self) -> None:
        ours = set[str]().union(*map(names_made_in, SOURCES.values()))
        for name in SOURCES.keys() - INSIDERS.keys():
            made = names_made_in(SOURCES[name])
            with self.subTest(name):
                # what a class inherits from another room it may use of itself
                inherited = names_used_in(SOURCES[name], of_self=True) - ours
                of_others = names_used_in(SOURCES[name], of_self=False) - made
                foreign = inherited | (of_others & PRIVATE_NAMES) | (of_others - ours)
                foreign -= OF_ASYNCIO.get(name, set())
                self.assertEqual(sorted(foreign), [])


if __name__ == "__main__":
    unittest.main()
