"""``config``: every option's default, types, range and edges, and what the errors name."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import unittest
from typing import Any

from aioh2.config import Config

#: The table of the design: every option with its default.
DEFAULTS: dict[str, Any] = {
    "concurrency": 100,
    "functional_timeout": 2,
    "initial_window_size": 262_144,
    "max_window_size": None,
    "connection_window_size": 16_777_216,
    "max_frame_size": 16_384,
    "max_header_list_size": 65_536,
    "header_table_size": 4_096,
    "header_encoding": "utf-8",
    "enable_push": False,
    "enable_connect_protocol": False,
    "no_rfc7540_priorities": False,
    "keepalive_interval": None,
    "keepalive_timeout": 20,
    "open_timeout": 10,
    "close_timeout": 10,
    "idle_timeout": None,
    "frame_timeout": 10,
    "write_timeout": 60,
    "window_timeout": None,
    "body_timeout": None,
    "max_connection_age": None,
    "max_connection_age_grace": 10,
    "reset_budget": (200, 20),
    "control_budget": (500, 50),
    "window_update_budget": (2_000, 500),
    "empty_frame_budget": (100, 10),
    "max_continuations": 32,
    "max_header_block_size": 65_536,
    "max_header_fields": 256,
    "max_settings_entries": 32,
    "frames_per_tick": 64,
    "bytes_per_tick": 8_192,
}

# Every option has a row in exactly one of the tables from here on.

#: Name: the least and the most.
INTEGERS = {
    "concurrency": (0, 2**32 - 1),
    "initial_window_size": (0, 2**31 - 1),
    "connection_window_size": (65_535, 2**31 - 1),
    "max_frame_size": (2**14, 2**24 - 1),
    "max_header_list_size": (0, 2**32 - 1),
    "header_table_size": (0, 2**32 - 1),
    "max_continuations": (0, 2**31 - 1),
    "max_header_block_size": (0, 2**32 - 1),
    "max_header_fields": (0, 2**31 - 1),
    "max_settings_entries": (0, 2**31 - 1),
    "frames_per_tick": (1, 2**31 - 1),
    "bytes_per_tick": (1, 2**31 - 1),
}
#: Those that may be None too.
OPTIONAL_INTEGERS = {"max_window_size": (0, 2**30)}
#: Name: whether None is allowed, whether 0 is.
SECONDS = {
    "functional_timeout": (False, False),
    "keepalive_interval": (True, False),
    "keepalive_timeout": (False, False),
    "open_timeout": (True, False),
    "close_timeout": (False, True),
    "idle_timeout": (True, False),
    "frame_timeout": (True, False),
    "write_timeout": (True, False),
    "window_timeout": (True, False),
    "body_timeout": (True, False),
    "max_connection_age": (True, False),
    "max_connection_age_grace": (False, True),
}
#: The most that any of them may be.
CENTURY = 100 * 365 * 24 * 60 * 60
BOOLEANS = {"enable_push", "enable_connect_protocol", "no_rfc7540_priorities"}
ENCODINGS = {"header_encoding"}
#: A burst and a rate, or None.
BUDGETS = {"reset_budget", "control_budget", "window_update_budget", "empty_frame_budget"}

NOT_INTEGERS = [True, False, 1.0, "100", b"100", None, [100], object()]
NOT_SECONDS = [True, False, "1", b"1", [1], 1j, object()]


class ConfigCase(unittest.TestCase):
    """What the classes below share: how an option that is wrong has to be turned down."""

    def assert_refused(self, kind: type[Exception], name: str, value: object, *words: str) -> None:
        """The error names the option, the value, and what is allowed."""
        shown = str(value) if kind is ValueError and not isinstance(value, str) else repr(value)
        with self.subTest(name, value=value):
            with self.assertRaises(kind) as caught:
                Config(**{name: value})
            # not a subclass, such as the UnicodeError of a failed conversion
            self.assertIs(type(caught.exception), kind)
            for word in (f"{name} must be ", f"not {shown}", *words):
                self.assertIn(word, str(caught.exception))

    def assert_kept(self, name: str, value: object) -> None:
        with self.subTest(name, value=value):
            self.assertEqual(getattr(Config(**{name: value}), name), value)


class TestDefaults(unittest.TestCase):
    def test_defaults(self) -> None:
        for field in dataclasses.fields(Config):
            with self.subTest(field.name):
                self.assertIn(field.name, DEFAULTS)
                self.assertEqual(field.default, DEFAULTS[field.name])
                self.assertIs(type(field.default), type(DEFAULTS[field.name]))

    def test_no_option_of_the_design_is_missing(self) -> None:
        names = {field.name for field in dataclasses.fields(Config)}
        self.assertEqual(sorted(DEFAULTS.keys() - names), [])

    def test_every_option_is_tested_below(self) -> None:
        rows = [*INTEGERS, *OPTIONAL_INTEGERS, *SECONDS, *BOOLEANS, *ENCODINGS, *BUDGETS]
        self.assertEqual(sorted(rows), sorted(field.name for field in dataclasses.fields(Config)))


class TestMessages(unittest.TestCase):
    def test_the_whole_message(self) -> None:
        seconds = f"a number of seconds, more than 0 and at most {CENTURY}"
        encodings = '"utf-8", "ascii", "latin-1" or None (bytes)'
        for name, value, message in [
            ("concurrency", -1, "from 0 to 4294967295, not -1"),
            ("concurrency", True, "an int from 0 to 4294967295, not True"),
            ("functional_timeout", 0, f"{seconds}, not 0"),
            ("functional_timeout", "2", f"{seconds}, not '2'"),
            ("idle_timeout", -1.5, f"{seconds}, or None, not -1.5"),
            ("close_timeout", -1, f"{seconds.replace('more than', 'at least')}, not -1"),
            ("enable_push", 1, "True or False, not 1"),
            ("header_encoding", "utf-16", f"{encodings}, not 'utf-16'"),
            ("header_encoding", b"ascii", f"{encodings}, not b'ascii'"),
        ]:
            with self.subTest(name, value=value):
                with self.assertRaises((TypeError, ValueError)) as caught:
                    Config(**{name: value})
                self.assertEqual(str(caught.exception), f"{name} must be {message}")


class TestIntegers(ConfigCase):
    def test_the_edges(self) -> None:
        for name, (low, high) in INTEGERS.items():
            self.assert_kept(name, low)
            self.assert_kept(name, high)

    def test_beyond_the_edges(self) -> None:
        for name, (low, high) in INTEGERS.items():
            for value in (low - 1, high + 1, -1, 10**400):
                self.assert_refused(ValueError, name, value, f"from {low} to {high}")

    def test_wrong_types(self) -> None:
        for name, (low, high) in INTEGERS.items():
            for value in NOT_INTEGERS:
                self.assert_refused(TypeError, name, value, f"an int from {low} to {high}")


class TestOptionalIntegers(ConfigCase):
    def test_none(self) -> None:
        for name in OPTIONAL_INTEGERS:
            self.assert_kept(name, None)

    def test_beyond_the_edges(self) -> None:
        for name, (low, high) in OPTIONAL_INTEGERS.items():
            for value in (low - 1, high + 1, 10**400):
                self.assert_refused(ValueError, name, value, f"from {low} to {high}")

    def test_wrong_types(self) -> None:
        for name, (low, high) in OPTIONAL_INTEGERS.items():
            for value in NOT_INTEGERS:
                if value is not None:
                    self.assert_refused(TypeError, name, value, f"from {low} to {high}, or None")


class TestMaxWindowSize(ConfigCase):
    def test_it_is_no_smaller_than_a_window_is_at_first(self) -> None:
        self.assert_kept("max_window_size", 262_144)
        self.assert_kept("max_window_size", 2**30)
        for value in (0, 262_143):
            self.assert_refused(
                ValueError, "max_window_size", value, "at least initial_window_size (262144)"
            )
        self.assertEqual(Config(initial_window_size=0, max_window_size=0).max_window_size, 0)

    def test_a_window_that_is_larger_at_first(self) -> None:
        config = Config(max_window_size=300_000)
        with self.assertRaisesRegex(ValueError, r"initial_window_size \(300001\), not 300000"):
            dataclasses.replace(config, initial_window_size=300_001)


class TestSeconds(ConfigCase):
    def test_any_positive_number_up_to_a_century(self) -> None:
        for name in SECONDS:
            for value in (1e-9, 0.5, 1, 3600, CENTURY):
                self.assert_kept(name, value)

    def test_zero(self) -> None:
        for name, (_, zero) in SECONDS.items():
            for value in (0, 0.0, -0.0):
                if zero:
                    self.assert_kept(name, value)
                else:
                    self.assert_refused(ValueError, name, value, "more than 0")

    def test_none(self) -> None:
        for name, (optional, _) in SECONDS.items():
            if optional:
                self.assert_kept(name, None)
            else:
                self.assert_refused(TypeError, name, None, "a number of seconds")

    def test_out_of_range(self) -> None:
        for name, (_, zero) in SECONDS.items():
            for value in (-1, -1e-9, CENTURY + 1, float("inf"), float("-inf"), float("nan")):
                bound = f"{'at least' if zero else 'more than'} 0 and at most {CENTURY}"
                self.assert_refused(ValueError, name, value, f"a number of seconds, {bound}")

    def test_an_int_beyond_the_largest_float(self) -> None:
        for name in SECONDS:
            self.assert_refused(ValueError, name, 10**400, "a number of seconds")

    def test_wrong_types(self) -> None:
        for name, (optional, _) in SECONDS.items():
            for value in NOT_SECONDS:
                words = ["a number of seconds", *(["or None"] if optional else [])]
                self.assert_refused(TypeError, name, value, *words)


class TestBooleans(ConfigCase):
    def test_both(self) -> None:
        for name in BOOLEANS:
            self.assert_kept(name, True)
            self.assert_kept(name, False)

    def test_wrong_types(self) -> None:
        for name in BOOLEANS:
            for value in (0, 1, None, "yes", b"", []):
                self.assert_refused(TypeError, name, value, "True or False")


class TestEncodings(ConfigCase):
    ALLOWED = '"utf-8", "ascii", "latin-1" or None (bytes)'

    def test_what_can_decode_any_bytes(self) -> None:
        for value in (None, "utf-8", "UTF-8", "utf8", "ascii", "us-ascii", "latin-1", "iso-8859-1"):
            self.assert_kept("header_encoding", value)

    def test_any_other(self) -> None:
        for value in ("utf-16", "utf-8-sig", "idna", "cp1252", "rot13", "no such", "", "\u00fc"):
            self.assert_refused(ValueError, "header_encoding", value, self.ALLOWED)

    def test_what_cannot_be_the_name_of_a_codec(self) -> None:
        for value in ("utf-8\0", "\ud800"):
            self.assert_refused(ValueError, "header_encoding", value, self.ALLOWED)

    def test_wrong_types(self) -> None:
        for value in (b"utf-8", 8, True, ["utf-8"]):
            self.assert_refused(TypeError, "header_encoding", value, self.ALLOWED)


class TestBudgets(ConfigCase):
    ALLOWED = "a tuple (burst, rate), an int and a number from 0 to 2147483647, or None"

    def test_a_burst_and_a_rate(self) -> None:
        for name in BUDGETS:
            for value in (None, (0, 0), (1, 0.5), (2**31 - 1, 2**31 - 1)):
                self.assert_kept(name, value)

    def test_beyond_the_edges(self) -> None:
        infinite = float("inf")
        for name in BUDGETS:
            for value in ((-1, 0), (0, -0.1), (2**31, 0), (0, 2**31), (1, infinite)):
                self.assert_refused(ValueError, name, value, self.ALLOWED)
            self.assert_refused(ValueError, name, (1, float("nan")), self.ALLOWED)

    def test_wrong_types(self) -> None:
        wrong = (1, True, "1", [1, 1], (), (1,), (1, 1, 1), (1.0, 1), (True, 1), (1, True), (1, ""))
        for name in BUDGETS:
            for value in wrong:
                self.assert_refused(TypeError, name, value, self.ALLOWED)


class TestObject(unittest.TestCase):
    def test_it_is_frozen(self) -> None:
        config = Config()
        with self.assertRaises(dataclasses.FrozenInstanceError):
            config.concurrency = 1  # type: ignore[misc]
        with self.assertRaises(dataclasses.FrozenInstanceError):
            del config.concurrency
        self.assertEqual(config.concurrency, 100)

    def test_there_is_no_room_for_a_misspelt_option(self) -> None:
        self.assertFalse(hasattr(Config(), "__dict__"))
        with self.assertRaises(TypeError):
            Config(concurency=1)  # type: ignore[call-arg]

    def test_options_have_names(self) -> None:
        with self.assertRaises(TypeError):
            Config(100)  # type: ignore[call-arg]

    def test_it_is_a_value(self) -> None:
        config = Config(concurrency=7)
        self.assertEqual(config, Config(concurrency=7))
        self.assertNotEqual(config, Config())
        self.assertEqual(len({config, Config(concurrency=7), Config()}), 2)

    def test_it_can_be_copied(self) -> None:
        config = Config(concurrency=7)
        for how, other in [
            ("copy", copy.copy(config)),
            ("deepcopy", copy.deepcopy(config)),
            ("pickle", pickle.loads(pickle.dumps(config))),
            ("replace", dataclasses.replace(config)),
        ]:
            with self.subTest(how):
                self.assertEqual(other, config)

    def test_a_replaced_option_is_checked(self) -> None:
        with self.assertRaisesRegex(ValueError, "concurrency"):
            dataclasses.replace(Config(), concurrency=-1)


class TestOf(unittest.TestCase):
    def test_the_defaults(self) -> None:
        self.assertEqual(Config.of(None, {}), Config())

    def test_options_alone(self) -> None:
        self.assertEqual(Config.of(None, {"concurrency": 7}), Config(concurrency=7))

    def test_options_go_before_those_of_the_config(self) -> None:
        config = Config(concurrency=7, enable_push=True)
        self.assertEqual(
            Config.of(config, {"concurrency": 8}), Config(concurrency=8, enable_push=True)
        )
        self.assertEqual(config.concurrency, 7)

    def test_options_are_checked(self) -> None:
        with self.assertRaisesRegex(ValueError, "concurrency must be from 0 to 4294967295, not -1"):
            Config.of(None, {"concurrency": -1})

    def test_an_unknown_option_is_named_beside_those_that_are_known(self) -> None:
        with self.assertRaises(TypeError) as caught:
            Config.of(None, {"concurrency": 7, "concurency": 7})
        start, _, known = str(caught.exception).partition("; known are: ")
        self.assertEqual(start, "unknown option 'concurency'")
        self.assertEqual({*known.split(", ")}, {field.name for field in dataclasses.fields(Config)})

    def test_a_config_of_another_type(self) -> None:
        for value in ({"concurrency": 7}, Config, 7, False):
            with self.subTest(value=value), self.assertRaises(TypeError) as caught:
                Config.of(value, {})  # type: ignore[arg-type]
            self.assertEqual(
                str(caught.exception), f"config must be a Config or None, not {value!r}"
            )


class TestSplit(unittest.TestCase):
    def test_ours_and_those_of_asyncio(self) -> None:
        options = {"concurrency": 7, "port": 0, "open_timeout": None, "backlog": 5}
        own, others = Config.split(options)
        self.assertEqual(own, {"concurrency": 7, "open_timeout": None})
        self.assertEqual(others, {"port": 0, "backlog": 5})
        self.assertEqual(len(options), 4)

    def test_every_option_is_ours(self) -> None:
        options = {field.name: field.default for field in dataclasses.fields(Config)}
        self.assertEqual(Config.split(options), (options, {}))

    def test_values_are_not_looked_at(self) -> None:
        self.assertEqual(Config.split({"concurrency": "?"}), ({"concurrency": "?"}, {}))

    def test_none(self) -> None:
        self.assertEqual(Config.split({}), ({}, {}))


if __name__ == "__main__":
    unittest.main()
