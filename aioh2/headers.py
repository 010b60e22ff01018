"""Header lists in and out: accept mappings or pairs, fill and order pseudo-headers, decode.

What goes out is checked by the same rules as what comes in (RFC 9113 sections 8.2, 8.3 and 8.5,
RFC 8441): malformed is malformed on either side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias, cast

from hpack import HeaderTuple, NeverIndexedHeaderTuple

__all__ = ["HeaderInput", "HeaderList"]

Text: TypeAlias = str | bytes
#: What a caller may pass: a mapping or an iterable of pairs, ``str`` or ``bytes``.
HeaderInput: TypeAlias = (
    Mapping[str, Text] | Mapping[bytes, Text] | Mapping[Text, Text] | Iterable[tuple[Text, Text]]
)
#: What a caller gets: pairs of ``str``. With ``header_encoding=None`` they are ``bytes``, and who
#: asks for that casts: ``cast(list[tuple[bytes, bytes]], await stream.recv_response())``. A union
#: would have everybody narrow it before the first ``dict(headers)[":path"]``, for the sake of an
#: option that few set; and pairs of ``Any`` would check nothing for anybody.
HeaderList: TypeAlias = list[tuple[str, str]]
#: What goes to and comes from the codec.
Fields: TypeAlias = Sequence[tuple[bytes, bytes]]


class Malformed(ValueError):
    """A header list breaks a rule of RFC 9113 section 8; the message says which."""


class Kind(Enum):
    """What a header list is for, which decides the pseudo-headers it may and must have."""

    REQUEST = "request"
    RESPONSE = "response"
    TRAILERS = "trailers"

    # Enum's own is a Python function
    __hash__ = object.__hash__


class Facts(NamedTuple):
    """What the rest of the code needs to know about a checked header list."""

    #: The ``:method`` of a request.
    method: bytes | None = None
    #: The ``:status`` of a response.
    status: int | None = None
    #: The ``:protocol`` of an extended CONNECT (RFC 8441).
    protocol: bytes | None = None
    #: The value of ``content-length``, where there is one.
    content_length: int | None = None
    #: The value of ``priority`` (RFC 9218), lines joined, where there is one.
    priority: bytes | None = None
    #: Whether there is a ``cookie``, which may come in crumbs.
    cookie: bool = False
    #: The size of the list as SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 section 6.5.2);
    #: known of lists that go out.
    size: int = 0


_PSEUDO: Final = {
    Kind.REQUEST: frozenset([b":method", b":scheme", b":authority", b":path", b":protocol"]),
    Kind.RESPONSE: frozenset([b":status"]),
    Kind.TRAILERS: frozenset[bytes](),
}
# RFC 9113 section 8.2.2
_CONNECTION_SPECIFIC: Final = frozenset(
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"]
)
# Kept out of the compression context, where a guess could be confirmed (RFC 7541 section 7.1.3).
_SENSITIVE: Final = frozenset([b"authorization", b"proxy-authorization"])
_SHORT_COOKIE: Final = 20
#: Names of fields whose values give access to something: no log or error shows them.
SECRET: Final = _SENSITIVE | {b"cookie", b"set-cookie"}
# What a check has to see each time, since it says more than that its line is good.
_COUNTED: Final = frozenset([b"content-length", b"host", b"priority"])

# RFC 9110 sections 5.1 and 5.5; names in lower case (RFC 9113 section 8.2.1)
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_VALUE: Final = re.compile(
    rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
).fullmatch
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*").fullmatch
_VISIBLE: Final = re.compile(rb"[\x21-\x7e\x80-\xff]+").fullmatch
_STATUS: Final = re.compile(rb"[1-9][0-9][0-9]").fullmatch
# 1*DIGIT of RFC 9110 section 8.6; nineteen that count are more than any body, and parse at once
_LENGTH: Final = re.compile(rb"0*[0-9]{1,19}").fullmatch
_DEFAULT_PORT: Final = {b"http": b":80", b"https": b":443"}


# --- out -----------------------------------------------------------------------------------


def _to_bytes(what: str, text: object, encoding: str) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode(encoding, "surrogateescape")
    raise TypeError(f"a header {what} must be str or bytes, not {text!r}")


def _pairs(headers: HeaderInput) -> Iterable[object]:
    if isinstance(headers, Mapping):
        return headers.items()
    if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
        raise TypeError(f"headers must be a mapping or an iterable of pairs, not {headers!r}")
    return headers


def _field(pair: object, encoding: str) -> tuple[bytes, bytes]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"a header must be a pair of name and value, not {pair!r}")
    name = _to_bytes("name", pair[0], encoding).lower()
    value = _to_bytes("value", pair[1], encoding).strip(b" \t")
    never = isinstance(pair, HeaderTuple) and not pair.indexable
    if never or name in _SENSITIVE or (name == b"cookie" and len(value) < _SHORT_COOKIE):
        return NeverIndexedHeaderTuple(name, value)
    return HeaderTuple(name, value)


def encode(headers: HeaderInput, encoding: str | None = "utf-8") -> list[tuple[bytes, bytes]]:
    """Return ``headers`` as bytes, names in lower case, pseudo-headers first, in their order.

    ``encoding``: of ``str``, so that what was decoded goes out as it came in; None as UTF-8.
    Raises ``TypeError`` for what is not a mapping or pairs of ``str`` or ``bytes``.
    """
    fields = [_field(pair, encoding or "utf-8") for pair in _pairs(headers)]
    return [f for f in fields if f[0][:1] == b":"] + [f for f in fields if f[0][:1] != b":"]


def encode_request(
    headers: HeaderInput, encoding: str | None = "utf-8", *, scheme: str, authority: str | None
) -> list[tuple[bytes, bytes]]:
    """Return a request's ``headers`` as bytes, with the pseudo-headers that are missing.

    ``:method`` is GET, ``:scheme`` and ``:authority`` are the connection's (a ``host`` field
    goes before it), ``:path`` is ``/``. A plain CONNECT gets no ``:scheme`` and no ``:path``
    (RFC 9113 section 8.5).
    """
    fields = encode(headers, encoding)
    given = dict(reversed(fields))
    filled: list[tuple[bytes, bytes]] = []
    if b":method" not in given:
        filled.append(HeaderTuple(b":method", b"GET"))
    plain_connect = given.get(b":method") == b"CONNECT" and b":protocol" not in given
    if b":scheme" not in given and not plain_connect:
        filled.append(HeaderTuple(b":scheme", scheme.encode("ascii")))
    if b":authority" not in given:
        host = given.get(b"host")
        if host is None and authority is not None:
            host = authority.encode("utf-8", "surrogateescape")
        if host is not None:
            filled.append(HeaderTuple(b":authority", host))
    if b":path" not in given and not plain_connect:
        filled.append(HeaderTuple(b":path", b"/"))
    return filled + fields


def with_field(headers: HeaderInput, name: str, value: str) -> HeaderInput:
    """Return ``headers`` and one field more; raises ``ValueError`` where it is there already."""
    pairs = list(_pairs(headers))
    if any(isinstance(pair, (tuple, list)) and pair[0] in (name, name.encode()) for pair in pairs):
        raise ValueError(f"the headers have a {name!r} field already, so it cannot be given twice")
    return cast(HeaderInput, [*pairs, (name, value)])


# --- in ------------------------------------------------------------------------------------


def decode(fields: Fields, encoding: str | None) -> HeaderList:
    """Return ``fields`` as an application gets them; bytes where ``encoding`` is None."""
    if encoding is None:
        # see HeaderList
        return cast(HeaderList, [(name, value) for name, value in fields])
    known = _texts.setdefault(encoding, {})
    # pairs are never empty: None is what is not known yet
    return [known.get(field) or _decode_field(field, encoding) for field in fields]


def _decode_field(field: tuple[bytes, bytes], encoding: str) -> tuple[str, str]:
    name, value = field
    text = (name.decode(encoding, "surrogateescape"), value.decode(encoding, "surrogateescape"))
    if _is_line_worth_keeping(name, value):
        _remember(_texts[encoding], field, text)
    return text


def join_cookies(fields: Fields) -> Fields:
    """Return ``fields`` with all cookie crumbs in one field, the last (RFC 9113 section 8.2.3).

    As h2 does, a cookie in one piece too becomes the last field, and one never to be indexed.
    """
    crumbs = [field[1] for field in fields if field[0] == b"cookie"]
    if not crumbs:
        return fields
    joined = NeverIndexedHeaderTuple(b"cookie", b"; ".join(crumbs))
    return [field for field in fields if field[0] != b"cookie"] + [joined]


# --- memos ---------------------------------------------------------------------------------

# What was found good, shared by all connections of the process: header lists that go out, those
# that come in, single field lines, and their text. Bounded in number and in length, and emptied
# when full. What names a credential is not remembered.
_REMEMBERED: Final = 512
_LONGEST: Final = 2_048
_LONGEST_LINE: Final = 512
_SECRET: Final = _SENSITIVE | {b"cookie", b"set-cookie"}
_Prepared: TypeAlias = tuple[tuple[tuple[bytes, bytes], ...], Facts]
_prepared: Final[dict[object, _Prepared]] = {}
_checked: Final[dict[tuple[Fields, Kind, bool], Facts]] = {}
_good_lines: Final[dict[tuple[bytes, bytes], bool]] = {}
_texts: Final[dict[str, dict[tuple[bytes, bytes], tuple[str, str]]]] = {}


def _size(fields: Fields) -> int:
    return sum(32 + len(name) + len(value) for name, value in fields)


def _is_worth_keeping(fields: Fields) -> bool:
    if any(name in _SECRET for name, _ in fields):
        return False
    return sum(len(name) + len(value) for name, value in fields) <= _LONGEST


def _is_line_worth_keeping(name: bytes, value: bytes) -> bool:
    return len(name) + len(value) <= _LONGEST_LINE and name not in _SECRET


def check_again(fields: Fields, kind: Kind, *, extended_connect: bool = False) -> Facts:
    """As :func:`check`, for a tuple of fields that may have been checked before."""
    key = (fields, kind, extended_connect)
    facts = _checked.get(key)
    if facts is None:
        facts = check(fields, kind, extended_connect=extended_connect)
        if _is_worth_keeping(fields):
            _remember(_checked, key, facts)
    return facts


def _remember(memo: dict[Any, Any], key: object, value: object) -> None:
    if len(memo) >= _REMEMBERED:
        memo.clear()
    memo[key] = value


def prepare(
    headers: HeaderInput,
    kind: Kind,
    encoding: str | None = "utf-8",
    *,
    origin: tuple[str, str | None] | None = None,
) -> _Prepared:
    """Return what :func:`encode` makes of ``headers``, and what :func:`check` says of it.

    ``origin``: the scheme and authority of a request, which is filled up by
    :func:`encode_request`. Raises what those raise.
    """
    key = _key(headers, kind, encoding, origin)
    try:
        found = _prepared.get(key)
    except TypeError:
        # not even hashable: encode says what is wrong with it
        found = key = None
    if found is not None:
        return found
    if origin is None:
        fields = tuple(encode(headers, encoding))
    else:
        fields = tuple(encode_request(headers, encoding, scheme=origin[0], authority=origin[1]))
    facts = check(fields, kind, extended_connect=True)._replace(size=_size(fields))
    found = (fields, facts)
    if key is not None and _is_worth_keeping(fields):
        _remember(_prepared, key, found)
    return found


_ONLY_TUPLES: Final = {tuple}


def _key(headers: HeaderInput, *rest: object) -> object:
    """Return what to remember a list under; None: what it is made of says more than it shows.

    A ``NeverIndexedHeaderTuple`` equals a plain pair, and an iterator can be read once.
    """
    if type(headers) is dict:
        return (rest, *headers.items())
    if type(headers) in (list, tuple) and set(map(type, headers)) == _ONLY_TUPLES:
        return (rest, *headers)
    return None


# --- both ----------------------------------------------------------------------------------


def check(fields: Fields, kind: Kind, *, extended_connect: bool = False) -> Facts:
    """Check a header list and return what it says of its message.

    ``extended_connect``: whether the server has announced RFC 8441, so that ``:protocol`` is
    known. Raises :class:`Malformed`.
    """
    pseudo: dict[bytes, bytes] = {}
    host: bytes | None = None
    length: int | None = None
    signals: list[bytes] = []
    cookie = False
    regular = False
    for field in fields:
        if field in _good_lines:
            regular = True
            continue
        name, value = field
        if name[:1] == b":":
            if regular:
                raise Malformed(f"pseudo-header {name!r} comes after a regular field")
            if name not in _PSEUDO[kind]:
                raise Malformed(f"pseudo-header {name!r} is not allowed in a {kind.value}")
            if name in pseudo:
                raise Malformed(f"pseudo-header {name!r} is there twice")
            pseudo[name] = value
            continue
        regular = True
        _check_field(name, value)
        if name == b"content-length" and kind is not Kind.TRAILERS:
            length = _content_length(value, length)
        elif name == b"host" and kind is Kind.REQUEST:
            if host is not None:
                raise Malformed("the host field is there twice")
            host = value
        elif name == b"priority":
            signals.append(value)
        elif name == b"cookie":
            cookie = True
        elif name not in _COUNTED and _is_line_worth_keeping(name, value):
            _remember(_good_lines, field, True)
    if kind is Kind.REQUEST:
        facts = _check_request(pseudo, host, length, extended_connect)
    else:
        facts = _check_response(pseudo, length) if kind is Kind.RESPONSE else Facts()
    if cookie or signals:
        facts = facts._replace(cookie=cookie, priority=b", ".join(signals) or None)
    return facts


def read(fields: Fields, kind: Kind) -> Facts:
    """Return what :func:`check` does, for a list that nobody wants checked.

    What cannot be read of it stays unknown; a status that cannot is a final one. Raises
    :class:`Malformed` where the message could not be told from others: for a bad content-length,
    and for an interim status where there is no interim response.
    """
    pseudo: dict[bytes, bytes] = {}
    length: int | None = None
    regular = False
    for name, value in fields:
        if name[:1] != b":":
            regular = True
            if name == b"content-length" and kind is not Kind.TRAILERS:
                length = _content_length(value, length)
        elif not regular or name != b":status":
            # a status that comes late does not make an interim response
            pseudo.setdefault(name, value)
    status = pseudo.get(b":status", b"")
    cookie = any(name == b"cookie" for name, _ in fields)
    if kind is Kind.RESPONSE:
        return Facts(status=_read_status(status), content_length=length, cookie=cookie)
    if status[:1] == b"1":
        raise Malformed(f"':status' {status!r} in a {kind.value}")
    return Facts(
        method=pseudo.get(b":method"),
        protocol=pseudo.get(b":protocol"),
        content_length=length,
        cookie=cookie,
    )


def _read_status(status: bytes) -> int:
    if _STATUS(status):
        return int(status)
    return 100 if status[:1] == b"1" else 200


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME(name):
        raise Malformed(f"field name {name!r} is empty or has a character that is not allowed")
    if not _VALUE(value):
        shown = "" if name in SECRET else f" {value!r}"
        raise Malformed(
            f"the value{shown} of field {name!r} has a control character, or white space at an end"
        )
    if name in _CONNECTION_SPECIFIC:
        raise Malformed(f"field {name!r} is connection-specific, which HTTP/2 does not have")
    if name == b"te" and value.lower() != b"trailers":
        raise Malformed(f"field 'te' may only be 'trailers', not {value!r}")


def _content_length(value: bytes, before: int | None) -> int:
    if before is not None:
        raise Malformed("the content-length field is there twice")
    if not _LENGTH(value):
        raise Malformed(f"content-length must be digits, not {value!r}")
    return int(value.lstrip(b"0") or b"0")


def _check_response(pseudo: Mapping[bytes, bytes], length: int | None) -> Facts:
    status = pseudo.get(b":status")
    if status is None:
        raise Malformed("pseudo-header ':status' is missing")
    if not _STATUS(status):
        raise Malformed(f"':status' must be three digits, not {status!r}")
    if status == b"101":
        raise Malformed("':status' 101 does not exist in HTTP/2 (RFC 9113 section 8.6)")
    return Facts(status=int(status), content_length=length)


def _check_request(
    pseudo: Mapping[bytes, bytes], host: bytes | None, length: int | None, extended_connect: bool
) -> Facts:
    method = pseudo.get(b":method")
    if method is None:
        raise Malformed("pseudo-header ':method' is missing")
    if not _TOKEN(method):
        raise Malformed(f"':method' must be a token, not {method!r}")
    protocol = pseudo.get(b":protocol")
    if protocol is not None:
        _check_protocol(protocol, method, extended_connect)
    if method == b"CONNECT" and protocol is None:
        _check_connect(pseudo, host)
    else:
        _check_target(pseudo, method, host)
    return Facts(method=method, protocol=protocol, content_length=length)


def _check_protocol(protocol: bytes, method: bytes, extended_connect: bool) -> None:
    if method != b"CONNECT":
        raise Malformed(f"':protocol' goes with the method CONNECT, not {method!r}")
    if not extended_connect:
        raise Malformed("':protocol' needs SETTINGS_ENABLE_CONNECT_PROTOCOL from the server")
    if not _TOKEN(protocol):
        raise Malformed(f"':protocol' must be a token, not {protocol!r}")


def _check_connect(pseudo: Mapping[bytes, bytes], host: bytes | None) -> None:
    # RFC 9113 section 8.5
    for name in (b":scheme", b":path"):
        if name in pseudo:
            raise Malformed(f"CONNECT must not have pseudo-header {name!r}")
    if b":authority" not in pseudo:
        raise Malformed("CONNECT must have pseudo-header ':authority'")
    _check_authority(pseudo[b":authority"], host, b"")


def _check_target(pseudo: Mapping[bytes, bytes], method: bytes, host: bytes | None) -> None:
    # RFC 9113 section 8.3.1
    scheme, path = pseudo.get(b":scheme"), pseudo.get(b":path")
    if scheme is None or path is None:
        missing = ":path" if scheme is not None else ":scheme"
        raise Malformed(f"pseudo-header {missing!r} is missing")
    if not _SCHEME(scheme):
        raise Malformed(f"':scheme' must be a URI scheme, not {scheme!r}")
    web = scheme.lower() in _DEFAULT_PORT
    if not _VISIBLE(path):
        raise Malformed(f"':path' must not be empty or have a space or control, as {path!r} does")
    if web and path[:1] != b"/" and not (path == b"*" and method == b"OPTIONS"):
        raise Malformed(f"':path' must start with '/' (or be '*' for OPTIONS), not {path!r}")
    authority = pseudo.get(b":authority", host)
    if authority is not None:
        _check_authority(authority, host, scheme.lower())
    elif web:
        raise Malformed("neither pseudo-header ':authority' nor field 'host' is there")


def _check_authority(authority: bytes, host: bytes | None, scheme: bytes) -> None:
    if scheme in _DEFAULT_PORT or not scheme:
        if not _VISIBLE(authority):
            raise Malformed(
                f"the authority must not be empty or have a space, as {authority!r} does"
            )
        if b"@" in authority:
            raise Malformed("':authority' must not have a userinfo part")
    elif authority and not _VISIBLE(authority):
        raise Malformed(f"the authority must not have a space or control, as {authority!r} does")
    if host is not None and _same_host(host, scheme) != _same_host(authority, scheme):
        raise Malformed(f"field 'host' {host!r} is not the ':authority' {authority!r}")


def _same_host(authority: bytes, scheme: bytes) -> bytes:
    return authority.lower().removesuffix(_DEFAULT_PORT.get(scheme, b" "))
