"""``headers``: what a caller may pass, what an application gets, and which lists are malformed."""

from __future__ import annotations

import unittest
from typing import Any

from hpack import HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

import aioh2.headers as memos
from aioh2.headers import (
    Facts,
    Kind,
    Malformed,
    check,
    decode,
    encode,
    encode_request,
    join_cookies,
    read,
)

BOUNDED = settings(derandomize=True, database=None, deadline=None, max_examples=200)

Pair = tuple[bytes, bytes]

REQUEST: dict[bytes, bytes] = {
    b":method": b"GET",
    b":scheme": b"https",
    b":authority": b"a.test",
    b":path": b"/",
}
CONNECT: dict[bytes, bytes] = {b":method": b"CONNECT", b":authority": b"a.test:443"}
EXTENDED: dict[bytes, bytes] = {**REQUEST, b":method": b"CONNECT", b":protocol": b"websocket"}

TOKEN_CHARACTERS = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


def having(base: dict[bytes, bytes], *fields: Pair, **pseudo: bytes | None) -> list[Pair]:
    """``base`` with other pseudo-headers (None: without), and with ``fields`` after them."""
    changed = dict[bytes, bytes | None](base)
    changed.update({b":" + name.encode(): value for name, value in pseudo.items()})
    return [*((name, value) for name, value in changed.items() if value is not None), *fields]


class CheckCase(unittest.TestCase):
    """What the classes below share: lists in tables, that have to pass or to fail."""

    def assert_good(
        self, fields: list[Pair], kind: Kind, *, extended_connect: bool = False
    ) -> None:
        with self.subTest(fields=fields):
            check(fields, kind, extended_connect=extended_connect)

    def assert_malformed(
        self, fields: list[Pair], kind: Kind, message: str, *, extended_connect: bool = False
    ) -> None:
        with self.subTest(fields=fields):
            with self.assertRaises(Malformed) as caught:
                check(fields, kind, extended_connect=extended_connect)
            self.assertIn(message, str(caught.exception))


# --- RFC 9113 section 8.2 ------------------------------------------------------------------


class TestFieldNames(CheckCase):
    def test_every_character_of_a_token(self) -> None:
        for number in range(256):
            name = b"x" + bytes([number])
            if number in TOKEN_CHARACTERS:
                self.assert_good([(name, b"")], Kind.TRAILERS)
            else:
                self.assert_malformed([(name, b"")], Kind.TRAILERS, f"field name {name!r}")

    def test_an_empty_name(self) -> None:
        for kind, base in [
            (Kind.TRAILERS, []),
            (Kind.RESPONSE, [(b":status", b"200")]),
            (Kind.REQUEST, having(REQUEST)),
        ]:
            self.assert_malformed([*base, (b"", b"")], kind, "field name b'' is empty")

    def test_upper_case(self) -> None:
        fields = having(REQUEST, (b"Accept", b"*/*"))
        self.assert_malformed(fields, Kind.REQUEST, "field name b'Accept'")


class TestFieldValues(CheckCase):
    def test_every_character_inside(self) -> None:
        for number in range(256):
            fields = [(b"x", b"a" + bytes([number]) + b"b")]
            if number == 0x09 or (number >= 0x20 and number != 0x7F):
                self.assert_good(fields, Kind.TRAILERS)
            else:
                self.assert_malformed(fields, Kind.TRAILERS, "has a control character")

    def test_white_space_at_an_end(self) -> None:
        for value in (b" a", b"a ", b"\ta", b"a\t", b" ", b"\t", b"\t \t"):
            self.assert_malformed([(b"x", value)], Kind.TRAILERS, "or white space at an end")

    def test_what_splits_messages(self) -> None:
        for value in (b"a\r\nb: c", b"a\n", b"\r", b"a\0"):
            self.assert_malformed([(b"x", value)], Kind.TRAILERS, "has a control character")

    def test_secrets_are_not_shown(self) -> None:
        """What is wrong with a header list is logged."""
        for name in (b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"):
            with self.assertRaises(Malformed) as caught:
                check([(name, b"hush\n")], Kind.TRAILERS)
            self.assertNotIn("hush", str(caught.exception))
            self.assertIn(f"the value of field {name!r} has", str(caught.exception))
        self.assert_malformed([(b"x", b"shown\n")], Kind.TRAILERS, r"the value b'shown\n' of field")

    def test_short_and_long(self) -> None:
        for value in (b"", b"a", b"\xff", b"a" * 100_000, b"a" + b" " * 100_000 + b"b"):
            self.assert_good([(b"x", value)], Kind.TRAILERS)


class TestConnectionSpecific(CheckCase):
    def test_none_is_allowed_anywhere(self) -> None:
        names = [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding"]
        for name in [*names, b"upgrade"]:
            for kind, base in [
                (Kind.REQUEST, having(REQUEST)),
                (Kind.RESPONSE, [(b":status", b"200")]),
                (Kind.TRAILERS, []),
            ]:
                self.assert_malformed([*base, (name, b"x")], kind, "connection-specific")

    def test_te_may_only_be_trailers(self) -> None:
        for value in (b"trailers", b"Trailers"):
            self.assert_good(having(REQUEST, (b"te", value)), Kind.REQUEST)
        for value in (b"gzip", b"trailers, gzip", b""):
            fields = having(REQUEST, (b"te", value))
            self.assert_malformed(fields, Kind.REQUEST, "field 'te' may only be 'trailers'")


# --- RFC 9113 section 8.3 ------------------------------------------------------------------


class TestPseudoHeaders(CheckCase):
    def test_after_a_regular_field(self) -> None:
        fields = [*having(REQUEST, (b"x", b""), path=None), (b":path", b"/")]
        self.assert_malformed(fields, Kind.REQUEST, "b':path' comes after a regular field")
        fields = [(b"x", b""), (b":status", b"200")]
        self.assert_malformed(fields, Kind.RESPONSE, "b':status' comes after a regular field")

    def test_of_another_kind(self) -> None:
        for kind, fields, name in [
            (Kind.REQUEST, having(REQUEST, status=b"200"), ":status"),
            (Kind.RESPONSE, [(b":status", b"200"), (b":path", b"/")], ":path"),
            (Kind.RESPONSE, [(b":method", b"GET")], ":method"),
            (Kind.TRAILERS, [(b":status", b"200")], ":status"),
            (Kind.TRAILERS, [(b":path", b"/")], ":path"),
            (Kind.REQUEST, having(REQUEST, unknown=b""), ":unknown"),
            (Kind.REQUEST, [*having(REQUEST), (b":", b"")], ":"),
            (Kind.REQUEST, [*having(REQUEST), (b":Path", b"/")], ":Path"),
        ]:
            message = f"{name.encode()!r} is not allowed in a {kind.value}"
            self.assert_malformed(fields, kind, message)

    def test_twice(self) -> None:
        for name, value in REQUEST.items():
            fields = [*REQUEST.items(), (name, value)]
            self.assert_malformed(fields, Kind.REQUEST, f"{name!r} is there twice")
        fields = [(b":status", b"200")] * 2
        self.assert_malformed(fields, Kind.RESPONSE, "b':status' is there twice")

    def test_in_any_order_among_themselves(self) -> None:
        self.assert_good([*reversed(REQUEST.items())], Kind.REQUEST)

    def test_missing(self) -> None:
        for name in (":method", ":scheme", ":path"):
            fields = having(REQUEST, **{name[1:]: None})
            self.assert_malformed(fields, Kind.REQUEST, f"{name!r} is missing")
        self.assert_malformed([], Kind.REQUEST, "':method' is missing")
        self.assert_malformed([], Kind.RESPONSE, "':status' is missing")
        self.assert_malformed([(b"x", b"")], Kind.RESPONSE, "':status' is missing")

    def test_trailers_need_none(self) -> None:
        self.assert_good([], Kind.TRAILERS)
        self.assert_good([(b"x", b"")], Kind.TRAILERS)


class TestMethod(CheckCase):
    def test_any_token(self) -> None:
        for method in (b"GET", b"PROPFIND", b"M-SEARCH", b"get", b"connect", b"x!"):
            self.assert_good(having(REQUEST, method=method), Kind.REQUEST)

    def test_no_token(self) -> None:
        for method in (b"", b"GET ", b" GET", b"GE T", b"GET\r\n", b"GET/", b"\xff"):
            fields = having(REQUEST, method=method)
            self.assert_malformed(fields, Kind.REQUEST, "':method' must be a token")


class TestScheme(CheckCase):
    def test_any_of_a_uri(self) -> None:
        for scheme in (b"http", b"https", b"HTTPS", b"coap+tcp", b"x-1.2"):
            self.assert_good(having(REQUEST, scheme=scheme), Kind.REQUEST)

    def test_none_of_a_uri(self) -> None:
        for scheme in (b"", b"1http", b"ht tp", b"http:", b"https\n", b"\xff"):
            fields = having(REQUEST, scheme=scheme)
            self.assert_malformed(fields, Kind.REQUEST, "':scheme' must be a URI scheme")


class TestPath(CheckCase):
    def test_absolute(self) -> None:
        for path in (b"/", b"/a?b=c", b"//", b"/%00", b"/\xc3\xbc", b"/*"):
            self.assert_good(having(REQUEST, path=path), Kind.REQUEST)

    def test_with_a_character_that_no_path_has(self) -> None:
        for path in (b"", b"/a b", b" /", b"/ ", b"/\t", b"/\r\nx", b"/\0", b"/\x7f"):
            for scheme in (b"https", b"coap"):
                fields = having(REQUEST, path=path, scheme=scheme)
                self.assert_malformed(fields, Kind.REQUEST, "':path' must not be empty or have")

    def test_not_absolute(self) -> None:
        for path in (b"a", b"?b=c", b"*", b"https://a.test/", b"*/"):
            for scheme in (b"http", b"https", b"HTTP"):
                fields = having(REQUEST, path=path, scheme=scheme)
                self.assert_malformed(fields, Kind.REQUEST, "':path' must start with '/'")

    def test_the_asterisk_of_options(self) -> None:
        self.assert_good(having(REQUEST, method=b"OPTIONS", path=b"*"), Kind.REQUEST)
        for method, path in [(b"OPTIONS", b"*a"), (b"options", b"*"), (b"GET", b"*")]:
            fields = having(REQUEST, method=method, path=path)
            self.assert_malformed(fields, Kind.REQUEST, "or be '*' for OPTIONS")

    def test_other_schemes_have_rules_of_their_own(self) -> None:
        self.assert_good(having(REQUEST, scheme=b"urn", path=b"a:b"), Kind.REQUEST)


class TestAuthority(CheckCase):
    def test_with_and_without_a_port(self) -> None:
        for authority in (b"a.test", b"a.test:8443", b"[::1]", b"[::1]:80", b"A.Test"):
            self.assert_good(having(REQUEST, authority=authority), Kind.REQUEST)

    def test_empty_or_with_white_space(self) -> None:
        for authority in (b"", b"a test", b"a.test ", b" ", b"a\r\n", b"a\0"):
            for base in (REQUEST, CONNECT):
                fields = having(base, authority=authority)
                message = "the authority must not be empty or have a space"
                self.assert_malformed(fields, Kind.REQUEST, message)

    def test_userinfo(self) -> None:
        for scheme in (b"http", b"https", b"HTTPS"):
            fields = having(REQUEST, authority=b"user@a.test", scheme=scheme)
            self.assert_malformed(fields, Kind.REQUEST, "must not have a userinfo part")

    def test_neither_authority_nor_host(self) -> None:
        for scheme in (b"http", b"https", b"HTTPS"):
            fields = having(REQUEST, authority=None, scheme=scheme)
            self.assert_malformed(fields, Kind.REQUEST, "neither pseudo-header ':authority' nor")

    def test_other_schemes_have_rules_of_their_own(self) -> None:
        for authority in (b"", b"user@a.test", b"a.test"):
            self.assert_good(having(REQUEST, scheme=b"ftp", authority=authority), Kind.REQUEST)
        fields = having(REQUEST, scheme=b"ftp", authority=b"a test")
        self.assert_malformed(fields, Kind.REQUEST, "the authority must not have a space")

    def test_other_schemes_may_have_none_to_convey(self) -> None:
        """RFC 9113 section 8.3.1: such a request must not have ``:authority``."""
        self.assert_good(having(REQUEST, scheme=b"urn", authority=None, path=b"a:b"), Kind.REQUEST)


class TestHost(CheckCase):
    def test_in_place_of_the_authority(self) -> None:
        self.assert_good(having(REQUEST, (b"host", b"a.test"), authority=None), Kind.REQUEST)
        for host, message in [(b"", "must not be empty"), (b"user@a.test", "userinfo")]:
            fields = having(REQUEST, (b"host", host), authority=None)
            self.assert_malformed(fields, Kind.REQUEST, message)

    def test_the_same_as_the_authority(self) -> None:
        for scheme, authority, host in [
            (b"https", b"a.test", b"a.test"),
            (b"https", b"a.test", b"A.TEST"),
            (b"https", b"a.test", b"a.test:443"),
            (b"https", b"a.test:443", b"a.test"),
            (b"http", b"a.test:80", b"a.test"),
            (b"HTTP", b"a.test:80", b"a.test"),
            (b"ftp", b"a.test", b"a.test"),
        ]:
            fields = having(REQUEST, (b"host", host), scheme=scheme, authority=authority)
            self.assert_good(fields, Kind.REQUEST)
        self.assert_good(having(CONNECT, (b"host", b"a.test:443")), Kind.REQUEST)

    def test_another_than_the_authority(self) -> None:
        for scheme, authority, host in [
            (b"https", b"a.test", b"b.test"),
            (b"https", b"a.test", b"a.test:80"),
            (b"http", b"a.test", b"a.test:443"),
            (b"https", b"a.test:8443", b"a.test"),
            (b"https", b"a.test", b""),
            (b"ftp", b"a.test", b"a.test:21"),
        ]:
            fields = having(REQUEST, (b"host", host), scheme=scheme, authority=authority)
            self.assert_malformed(fields, Kind.REQUEST, f"field 'host' {host!r} is not the")
        fields = having(CONNECT, (b"host", b"a.test"))
        self.assert_malformed(fields, Kind.REQUEST, "field 'host' b'a.test' is not the")

    def test_twice(self) -> None:
        for authority in (b"a.test", None):
            fields = having(REQUEST, *[(b"host", b"a.test")] * 2, authority=authority)
            self.assert_malformed(fields, Kind.REQUEST, "the host field is there twice")

    def test_elsewhere_it_is_a_field_like_any_other(self) -> None:
        hosts = [(b"host", b"a.test"), (b"host", b"b.test")]
        self.assert_good([(b":status", b"200"), *hosts], Kind.RESPONSE)
        self.assert_good(hosts, Kind.TRAILERS)


class TestStatus(CheckCase):
    def test_three_digits(self) -> None:
        for status in (100, 103, 200, 204, 304, 404, 599, 999):
            self.assert_good([(b":status", b"%d" % status)], Kind.RESPONSE)

    def test_anything_else(self) -> None:
        for status in (
            b"",
            b"20",
            b"2000",
            b"000",
            b"099",
            b"2OO",
            b" 200",
            b"+20",
            b"\xb2\xb2\xb2",
        ):
            fields = [(b":status", status)]
            self.assert_malformed(fields, Kind.RESPONSE, "':status' must be three digits")

    def test_no_switching_of_protocols(self) -> None:
        fields = [(b":status", b"101")]
        self.assert_malformed(fields, Kind.RESPONSE, "101 does not exist in HTTP/2")


# --- RFC 9113 section 8.5, RFC 8441 --------------------------------------------------------


class TestConnect(CheckCase):
    def test_plain(self) -> None:
        self.assert_good(having(CONNECT), Kind.REQUEST)

    def test_a_target_that_is_no_authority(self) -> None:
        for name, value in [("scheme", b"https"), ("path", b"/"), ("path", b"")]:
            fields = having(CONNECT, **{name: value})
            message = f"CONNECT must not have pseudo-header {f':{name}'.encode()!r}"
            self.assert_malformed(fields, Kind.REQUEST, message)

    def test_no_target(self) -> None:
        for fields in (
            having(CONNECT, authority=None),
            having(CONNECT, (b"host", b"a.test:443"), authority=None),
        ):
            message = "CONNECT must have pseudo-header ':authority'"
            self.assert_malformed(fields, Kind.REQUEST, message)

    def test_userinfo(self) -> None:
        fields = having(CONNECT, authority=b"user@a.test:443")
        self.assert_malformed(fields, Kind.REQUEST, "must not have a userinfo part")


class TestExtendedConnect(CheckCase):
    def test_where_the_server_has_announced_it(self) -> None:
        self.assert_good(having(EXTENDED), Kind.REQUEST, extended_connect=True)

    def test_where_it_has_not(self) -> None:
        message = "':protocol' needs SETTINGS_ENABLE_CONNECT_PROTOCOL"
        self.assert_malformed(having(EXTENDED), Kind.REQUEST, message)
        with self.assertRaises(Malformed):
            check(having(EXTENDED), Kind.REQUEST)

    def test_it_has_the_target_of_any_other_request(self) -> None:
        for name, message in [
            ("scheme", "':scheme' is missing"),
            ("path", "':path' is missing"),
            ("authority", "neither pseudo-header ':authority'"),
        ]:
            fields = having(EXTENDED, **{name: None})
            self.assert_malformed(fields, Kind.REQUEST, message, extended_connect=True)

    def test_with_another_method(self) -> None:
        fields = having(EXTENDED, method=b"GET")
        message = "':protocol' goes with the method CONNECT"
        self.assert_malformed(fields, Kind.REQUEST, message, extended_connect=True)

    def test_no_token(self) -> None:
        for protocol in (b"", b"web socket", b"a/b"):
            fields = having(EXTENDED, protocol=protocol)
            message = "':protocol' must be a token"
            self.assert_malformed(fields, Kind.REQUEST, message, extended_connect=True)

    def test_plain_connect_is_as_it_was(self) -> None:
        self.assert_good(having(CONNECT), Kind.REQUEST, extended_connect=True)


# --- content-length, and what check() returns ----------------------------------------------


class TestContentLength(CheckCase):
    def test_digits(self) -> None:
        for value in (b"0", b"007", b"5", b"9" * 19):
            for kind, base in [
                (Kind.REQUEST, having(REQUEST)),
                (Kind.RESPONSE, [(b":status", b"200")]),
            ]:
                with self.subTest(value=value, kind=kind):
                    facts = check([*base, (b"content-length", value)], kind)
                    self.assertEqual(facts.content_length, int(value))

    def test_no_digits(self) -> None:
        for value in (b"", b"-1", b"+1", b"1 1", b"1,1", b"1, 1", b"0x1", b"1.0", b"1_0", b"\xb2"):
            fields = having(REQUEST, (b"content-length", value))
            self.assert_malformed(fields, Kind.REQUEST, "content-length must be digits")

    def test_more_digits_than_any_body_has(self) -> None:
        for digits in (20, 100_000):
            fields = having(REQUEST, (b"content-length", b"1" * digits))
            with self.subTest(digits=digits), self.assertRaises(Malformed):
                check(fields, Kind.REQUEST)

    def test_twice(self) -> None:
        for second in (b"5", b"6"):
            fields = having(REQUEST, (b"content-length", b"5"), (b"content-length", second))
            self.assert_malformed(fields, Kind.REQUEST, "the content-length field is there twice")

    def test_in_trailers_it_says_nothing(self) -> None:
        fields = [(b"content-length", b"5"), (b"content-length", b"x")]
        self.assertEqual(check(fields, Kind.TRAILERS), Facts())


class TestFacts(unittest.TestCase):
    def test_facts(self) -> None:
        length = (b"content-length", b"5")
        for fields, kind, facts in [
            (having(REQUEST), Kind.REQUEST, Facts(method=b"GET")),
            (having(REQUEST, length), Kind.REQUEST, Facts(method=b"GET", content_length=5)),
            (having(CONNECT), Kind.REQUEST, Facts(method=b"CONNECT")),
            (having(EXTENDED), Kind.REQUEST, Facts(method=b"CONNECT", protocol=b"websocket")),
            ([(b":status", b"103")], Kind.RESPONSE, Facts(status=103)),
            ([(b":status", b"200"), length], Kind.RESPONSE, Facts(status=200, content_length=5)),
            ([(b"x", b"")], Kind.TRAILERS, Facts()),
        ]:
            with self.subTest(fields=fields):
                self.assertEqual(check(fields, kind, extended_connect=True), facts)

    def test_malformed_is_an_error_of_the_value(self) -> None:
        with self.assertRaises(ValueError):
            check([], Kind.REQUEST)


# --- out -----------------------------------------------------------------------------------


class TestEncode(unittest.TestCase):
    def test_what_may_be_passed(self) -> None:
        expected = [(b":path", b"/"), (b"x", b"\xc3\xbc")]
        for headers in (
            {":path": "/", "x": "\u00fc"},
            {b":path": b"/", b"x": b"\xc3\xbc"},
            [(":path", "/"), ("x", "\u00fc")],
            ((b":path", "/"), ("x", b"\xc3\xbc")),
            [[":path", "/"], ["x", "\u00fc"]],
            iter([(":path", "/"), ("x", "\u00fc")]),
            {":path": "/", "x": "\u00fc"}.items(),
            [HeaderTuple(":path", "/"), HeaderTuple("x", "\u00fc")],
        ):
            with self.subTest(headers=headers):
                self.assertEqual(encode(headers), expected)

    def test_nothing(self) -> None:
        for headers in ({}, [], iter([])):
            with self.subTest(headers=headers):
                self.assertEqual(encode(headers), [])

    def test_what_may_not_be_passed(self) -> None:
        cases: list[tuple[Any, str]] = [
            ("x: y", "headers must be a mapping or an iterable of pairs, not 'x: y'"),
            (b"x: y", "headers must be a mapping or an iterable of pairs, not b'x: y'"),
            (None, "headers must be a mapping or an iterable of pairs, not None"),
            (5, "headers must be a mapping or an iterable of pairs, not 5"),
            (["xy"], "a header must be a pair of name and value, not 'xy'"),
            ([("x",)], "a header must be a pair of name and value, not ('x',)"),
            ([("x", "y", True)], "a header must be a pair of name and value, not ('x', 'y', True)"),
            ([None], "a header must be a pair of name and value, not None"),
            ({"x": 5}, "a header value must be str or bytes, not 5"),
            ({"x": None}, "a header value must be str or bytes, not None"),
            ({5: "x"}, "a header name must be str or bytes, not 5"),
            ([("x", bytearray(b"y"))], "a header value must be str or bytes, not bytearray(b'y')"),
        ]
        for headers, message in cases:
            with self.subTest(headers=headers):
                with self.assertRaises(TypeError) as caught:
                    encode(headers)
                self.assertEqual(str(caught.exception), message)

    def test_names_become_lower_case_and_values_stay(self) -> None:
        self.assertEqual(encode({"X-Name": "Value"}), [(b"x-name", b"Value")])
        self.assertEqual(encode({b"X-NAME": b"VALUE"}), [(b"x-name", b"VALUE")])

    def test_white_space_around_a_value_goes(self) -> None:
        for value, expected in [
            (" a b\t", b"a b"),
            (b"\t a", b"a"),
            (" ", b""),
            ("", b""),
            ("\u00a0a", b"\xc2\xa0a"),
            ("a\n", b"a\n"),
        ]:
            with self.subTest(value=value):
                self.assertEqual(encode({"x": value}), [(b"x", expected)])

    def test_names_are_not_stripped(self) -> None:
        self.assertEqual(encode({" x": ""}), [(b" x", b"")])

    def test_pseudo_headers_come_first_and_the_rest_keeps_its_order(self) -> None:
        headers = [("b", "1"), (":path", "/"), ("a", "2"), (":method", "GET"), ("b", "3")]
        self.assertEqual(
            encode(headers),
            [(b":path", b"/"), (b":method", b"GET"), (b"b", b"1"), (b"a", b"2"), (b"b", b"3")],
        )

    def test_each_encoding(self) -> None:
        for text, encoding, expected in [
            ("\u00fc", "utf-8", b"\xc3\xbc"),
            ("\u00fc", "latin-1", b"\xfc"),
            ("\u00fc", None, b"\xc3\xbc"),
            ("\udcff", "utf-8", b"\xff"),
            ("\udcff", "ascii", b"\xff"),
            ("\udcff", "latin-1", b"\xff"),
        ]:
            with self.subTest(text=text, encoding=encoding):
                self.assertEqual(encode({text: text}, encoding), [(expected, expected)])
        self.assertEqual(encode({"x": b"\xfc"}, "ascii"), [(b"x", b"\xfc")])

    def test_a_text_that_an_encoding_does_not_have(self) -> None:
        for text, encoding in [
            ("\ud800", "utf-8"),
            ("\ud800", None),
            ("\u00fc", "ascii"),
            ("\u20ac", "latin-1"),
        ]:
            with self.subTest(text=text, encoding=encoding), self.assertRaises(ValueError):
                encode({"x": text}, encoding)


class TestNeverIndexed(unittest.TestCase):
    def test_what_a_guess_could_confirm(self) -> None:
        for name, value, never in [
            ("authorization", "Basic abc", True),
            ("Authorization", "x" * 500, True),
            (b"proxy-authorization", b"", True),
            ("cookie", "x" * 19, True),
            ("Cookie", "", True),
            ("cookie", "x" * 20, False),
            ("cookie", "  " + "x" * 19 + "  ", True),
            ("set-cookie", "a", False),
            ("x", "a", False),
        ]:
            with self.subTest(name=name, value=value):
                (field,) = encode([(name, value)])
                self.assertIsInstance(field, HeaderTuple)
                self.assertIs(isinstance(field, NeverIndexedHeaderTuple), never)
                self.assertIs(field.indexable, not never)

    def test_what_the_caller_says_is_kept(self) -> None:
        fields = encode([NeverIndexedHeaderTuple("X-Token", " a "), HeaderTuple("x", "a")])
        self.assertEqual(fields, [(b"x-token", b"a"), (b"x", b"a")])
        self.assertIsInstance(fields[0], NeverIndexedHeaderTuple)
        self.assertNotIsInstance(fields[1], NeverIndexedHeaderTuple)

    def test_a_caller_cannot_lift_it(self) -> None:
        (field,) = encode([HeaderTuple("authorization", "a")])
        self.assertIsInstance(field, NeverIndexedHeaderTuple)


class TestEncodeRequest(unittest.TestCase):
    def encode(
        self, headers: Any, scheme: str = "https", authority: str | None = "a.test"
    ) -> list[Pair]:
        return encode_request(headers, scheme=scheme, authority=authority)

    def test_all_that_is_missing(self) -> None:
        self.assertEqual(
            self.encode({"x": "y"}),
            [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", b"a.test"),
                (b":path", b"/"),
                (b"x", b"y"),
            ],
        )

    def test_what_is_given_stays(self) -> None:
        given_ = {":method": "PUT", ":scheme": "ftp", ":authority": "b.test", ":path": "/b"}
        for name, value in given_.items():
            with self.subTest(name=name):
                fields = self.encode({"x": "y", name: value})
                self.assertEqual(len(fields), 5)
                self.assertIn((name.encode(), value.encode()), fields)
        self.assertEqual(
            self.encode(given_), [(name.encode(), value.encode()) for name, value in given_.items()]
        )

    def test_what_is_filled_in_is_well_formed(self) -> None:
        for headers in (
            {},
            {"x": "y"},
            {":path": "/b", "Host": "B.test"},
            [("x", "y"), (":method", "POST")],
            {":method": "CONNECT", ":authority": "b.test:443"},
            {":method": "CONNECT"},
            {":method": "CONNECT", ":protocol": "websocket"},
        ):
            with self.subTest(headers=headers):
                check(self.encode(headers), Kind.REQUEST, extended_connect=True)

    def test_a_host_goes_before_the_connections_own(self) -> None:
        fields = self.encode({"Host": "b.test"})
        self.assertIn((b":authority", b"b.test"), fields)
        self.assertEqual(fields[-1], (b"host", b"b.test"))

    def test_an_authority_goes_before_a_host(self) -> None:
        fields = self.encode({"host": "b.test", ":authority": "c.test"})
        self.assertIn((b":authority", b"c.test"), fields)
        self.assertEqual([name for name, _ in fields].count(b":authority"), 1)

    def test_the_first_of_two_hosts(self) -> None:
        fields = self.encode([("host", "b.test"), ("host", "c.test")])
        self.assertIn((b":authority", b"b.test"), fields)

    def test_no_authority_is_known(self) -> None:
        names = [name for name, _ in self.encode({}, authority=None)]
        self.assertEqual(names, [b":method", b":scheme", b":path"])
        fields = self.encode({"host": "b.test"}, authority=None)
        self.assertIn((b":authority", b"b.test"), fields)

    def test_plain_connect_gets_no_scheme_and_no_path(self) -> None:
        self.assertEqual(
            self.encode({":method": "CONNECT"}),
            [(b":authority", b"a.test"), (b":method", b"CONNECT")],
        )

    def test_extended_connect_gets_all(self) -> None:
        names = {name for name, _ in self.encode({":method": "CONNECT", ":protocol": "websocket"})}
        self.assertEqual(names, set(EXTENDED))

    def test_the_encoding_is_that_of_what_is_given(self) -> None:
        fields = encode_request({"x": "\u00fc"}, "latin-1", scheme="https", authority="\u00fc.test")
        self.assertEqual(fields[-1], (b"x", b"\xfc"))
        self.assertIn((b":authority", b"\xc3\xbc.test"), fields)

    def test_what_is_filled_in_may_be_indexed(self) -> None:
        for field in self.encode({}):
            with self.subTest(field=field):
                self.assertIs(type(field), HeaderTuple)


# --- in ------------------------------------------------------------------------------------


class TestDecode(unittest.TestCase):
    FIELDS = ((b"x", b"a"), (b"y", b"\xc3\xbc\xff"))

    def test_each_encoding(self) -> None:
        for encoding, expected in [
            ("utf-8", [("x", "a"), ("y", "\u00fc\udcff")]),
            ("ascii", [("x", "a"), ("y", "\udcc3\udcbc\udcff")]),
            ("latin-1", [("x", "a"), ("y", "\u00c3\u00bc\u00ff")]),
            (None, [*self.FIELDS]),
        ]:
            with self.subTest(encoding=encoding):
                self.assertEqual(decode(self.FIELDS, encoding), expected)

    def test_plain_tuples_come_out(self) -> None:
        for encoding in ("utf-8", None):
            with self.subTest(encoding=encoding):
                (field,) = decode([NeverIndexedHeaderTuple(b"x", b"a")], encoding)
                self.assertIs(type(field), tuple)

    def test_nothing(self) -> None:
        self.assertEqual(decode([], "utf-8"), [])

    @BOUNDED
    @given(st.lists(st.tuples(st.binary(), st.binary())))
    def test_nothing_is_lost(self, fields: list[Pair]) -> None:
        """What came in goes out again as it was, whatever bytes it has."""
        fields = [(name.lower(), value.strip(b" \t")) for name, value in fields]
        fields.sort(key=lambda field: field[0][:1] != b":")
        for encoding in ("utf-8", "ascii", "latin-1", None):
            self.assertEqual(encode(decode(fields, encoding), encoding), fields)


class TestJoinCookies(unittest.TestCase):
    def test_without_cookies_the_list_stays_as_it_is(self) -> None:
        for fields in ([], [(b"x", b"1")]):
            with self.subTest(fields=fields):
                self.assertIs(join_cookies(fields), fields)

    def test_one_cookie_becomes_the_last_field(self) -> None:
        joined = join_cookies([(b"cookie", b"a=1"), (b"x", b"1")])
        self.assertEqual(joined, [(b"x", b"1"), (b"cookie", b"a=1")])
        self.assertIsInstance(joined[-1], NeverIndexedHeaderTuple)

    def test_crumbs_become_one_field_in_their_order(self) -> None:
        crumbs = [(b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]
        self.assertEqual(join_cookies(crumbs), [(b"x", b"1"), (b"cookie", b"a=1; b=2; c=3")])
        self.assertEqual(len(crumbs), 4)

    def test_the_field_is_never_indexed(self) -> None:
        joined = join_cookies([(b"cookie", b"a=1"), (b"cookie", b"b=2")])
        self.assertIsInstance(joined[-1], NeverIndexedHeaderTuple)

    def test_other_fields_may_come_more_than_once(self) -> None:
        fields = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        self.assertEqual(join_cookies(fields), fields)


class TestRead(unittest.TestCase):
    """Lists that nobody wants checked."""

    def test_as_check_where_that_finds_nothing(self) -> None:
        request = [
            (b":method", b"CONNECT"),
            (b":scheme", b"https"),
            (b":authority", b"a.test"),
            (b":path", b"/"),
            (b":protocol", b"websocket"),
            (b"content-length", b"7"),
        ]
        response = [(b":status", b"404"), (b"content-length", b"0")]
        for fields, kind in ((request, Kind.REQUEST), (response, Kind.RESPONSE)):
            with self.subTest(kind=kind):
                self.assertEqual(read(fields, kind), check(fields, kind, extended_connect=True))
        self.assertEqual(read([(b"content-length", b"x")], Kind.TRAILERS), Facts())

    def test_malformed_lists(self) -> None:
        self.assertEqual(read([(b"", b"\0"), (b":path", b"")], Kind.REQUEST), Facts())
        for status, read_as in ((b"1", 100), (b"1xx", 100), (b"99", 200), (b"", 200)):
            with self.subTest(status=status):
                facts = read([(b":status", status)], Kind.RESPONSE)
                self.assertEqual(facts, Facts(status=read_as))

    def test_the_first_counts(self) -> None:
        fields = [(b":method", b"GET"), (b"x", b"y"), (b":method", b"PUT")]
        self.assertEqual(read(fields, Kind.REQUEST).method, b"GET")

    def test_what_decides_where_a_message_ends(self) -> None:
        for kind in (Kind.REQUEST, Kind.RESPONSE):
            with self.subTest(kind=kind), self.assertRaises(Malformed):
                read([(b"content-length", b"-1")], kind)
        for kind in (Kind.REQUEST, Kind.TRAILERS):
            with self.subTest(kind=kind), self.assertRaises(Malformed):
                read([(b":status", b"100")], kind)
            self.assertEqual(read([(b"x", b"y"), (b":status", b"100")], kind), Facts())


# --- what is remembered --------------------------------------------------------------------


class TestMemos(unittest.TestCase):
    """What was found good is good again; what was not is looked at again."""

    def setUp(self) -> None:
        for memo in (memos._checked, memos._prepared, memos._good_lines, memos._texts):
            memo.clear()

    def test_prepared(self) -> None:
        for _ in range(2):
            fields, facts = memos.prepare({":status": "204", "A": " b "}, Kind.RESPONSE)
            self.assertEqual(fields, ((b":status", b"204"), (b"a", b"b")))
            self.assertEqual(facts.status, 204)
        self.assertEqual(len(memos._prepared), 1)

    def test_kind_encoding_and_origin_count(self) -> None:
        request = {":method": "GET", "x": "\xe9"}
        seen = set()
        for encoding in ("utf-8", "latin-1"):
            for origin in (("http", "a.test"), ("https", "a.test"), ("http", "b.test")):
                for _ in range(2):
                    fields, _facts = memos.prepare(request, Kind.REQUEST, encoding, origin=origin)
                seen.add(fields)
        self.assertEqual(len(seen), 6)
        with self.assertRaises(Malformed):
            memos.prepare(request, Kind.TRAILERS)

    def test_lists_of_pairs(self) -> None:
        for pairs in ([(":status", "200"), ("a", "b")], ((":status", "200"), ("a", "c"))):
            for _ in range(2):
                fields, _facts = memos.prepare(pairs, Kind.RESPONSE)
                self.assertEqual(fields[1], (b"a", pairs[1][1].encode()))
        self.assertEqual(len(memos._prepared), 2)

    def test_what_says_more_than_it_shows_is_not_remembered(self) -> None:
        secret = NeverIndexedHeaderTuple("a", "b")
        for pairs in (
            [(":status", "200"), secret],
            [[":status", "200"], ["a", "b"]],
            iter([(":status", "200"), ("a", "b")]),
        ):
            fields, _ = memos.prepare(pairs, Kind.RESPONSE)
            self.assertEqual(len(fields), 2)
        self.assertEqual(memos._prepared, {})
        for pair in (("a", "b"), secret, ("a", "b")):
            fields, _ = memos.prepare([(":status", "200"), pair], Kind.RESPONSE)
            self.assertIs(type(fields[1]) is NeverIndexedHeaderTuple, pair is secret)

    def test_size(self) -> None:
        for _ in range(2):
            _, facts = memos.prepare({":status": "200", "a": "bc"}, Kind.RESPONSE)
            self.assertEqual(facts.size, 32 + 7 + 3 + 32 + 1 + 2)

    def test_malformed_every_time(self) -> None:
        for _ in range(2):
            with self.assertRaises(Malformed):
                memos.prepare({":status": "200", "a": "b\n"}, Kind.RESPONSE)
            with self.assertRaises(TypeError):
                memos.prepare({":status": ["200"]}, Kind.RESPONSE)  # type: ignore[dict-item]
            with self.assertRaises(Malformed):
                memos.check_again(((b"A", b""),), Kind.TRAILERS)

    def test_credentials_are_not_kept(self) -> None:
        for name in ("authorization", "cookie", "set-cookie", "proxy-authorization"):
            memos.prepare({":status": "200", name: "x" * 30}, Kind.RESPONSE)
            memos.check_again(((name.encode(), b"x" * 30),), Kind.TRAILERS)
            decode([(name.encode(), b"x" * 30), (b"a", b"x" * 5_000)], "utf-8")
        memos.prepare({":status": "200", "a": "x" * 5_000}, Kind.RESPONSE)
        self.assertEqual((memos._prepared, memos._checked), ({}, {}))
        self.assertEqual((dict(memos._good_lines), memos._texts["utf-8"]), ({}, {}))

    def test_bounded(self) -> None:
        for number in range(2_000):
            memos.prepare({":status": "200", "a": str(number)}, Kind.RESPONSE)
            memos.check_again(((b"a", str(number).encode()),), Kind.TRAILERS)
            decode([(b"a", str(number).encode())], "utf-8")
        texts = memos._texts["utf-8"]
        for memo in (memos._prepared, memos._checked, memos._good_lines, texts):
            self.assertLessEqual(len(memo), memos._REMEMBERED)
            self.assertGreater(len(memo), 0)

    def test_a_good_line_is_not_a_good_list(self) -> None:
        good = [(b":status", b"200"), (b"x", b"1"), (b"content-length", b"1")]
        bad = {
            "a pseudo-header after it": [good[1], good[0]],
            "the same pseudo-header twice": [good[0], *good],
            "two lengths": [*good, good[2]],
        }
        for _ in range(2):
            memos.check(good, Kind.RESPONSE)
            for what, fields in bad.items():
                with self.subTest(what), self.assertRaises(Malformed):
                    memos.check(fields, Kind.RESPONSE)
        request = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b"host", b"a")]
        for _ in range(2):
            memos.check(request, Kind.REQUEST)
            with self.assertRaises(Malformed):
                memos.check([*request, request[3]], Kind.REQUEST)
            with self.assertRaises(Malformed):
                memos.check([*request, (b":authority", b"b")], Kind.REQUEST)

    def test_text_by_encoding(self) -> None:
        fields = [(b"a", b"\xc3\xa9")]
        for _ in range(2):
            self.assertEqual(decode(fields, "utf-8"), [("a", "\xe9")])
            self.assertEqual(decode(fields, "latin-1"), [("a", "\xc3\xa9")])
            self.assertEqual(decode(fields, None), fields)

    def test_checked_again(self) -> None:
        fields = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"))
        fields += ((b":path", b"/"), (b":authority", b"a.test"))
        for _ in range(2):
            facts = memos.check_again(fields, Kind.REQUEST, extended_connect=True)
            self.assertEqual(facts.protocol, b"websocket")
            with self.assertRaises(Malformed):
                memos.check_again(fields, Kind.REQUEST)


if __name__ == "__main__":
    unittest.main()
