"""URLs as they are typed, taken apart into what a request and a connection need."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from .exits import Exit, Failure

__all__ = ["URL", "Origin"]

_PORTS = {"http": 80, "https": 443}
# What RFC 3986 allows in a path or a query, and the sign of what is encoded already.
_SAFE = "/?:@!$&'()*+,;=-._~%"
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_FORM = re.compile(r"(?P<scheme>[^:/?#]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?")


class Origin(NamedTuple):
    """What a connection is made to."""

    scheme: str
    #: As in a URL, an IPv6 address without its brackets.
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of ``:authority``: without the port where that is the scheme's own."""
        # a zone has a meaning on this machine only (RFC 6874 section 1)
        name = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class URL(NamedTuple):
    """An http or https URL."""

    origin: Origin
    #: Path and query, percent-encoded: the value of ``:path``.
    path: str

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"

    @property
    def file_name(self) -> str:
        """The name of the file that the path ends with; "" where there is none to write to."""
        name = unquote(self.path.partition("?")[0].rpartition("/")[2], errors="surrogateescape")
        return "" if name in (".", "..") or "/" in name or "\0" in name else name

    @classmethod
    def parse(cls, text: str, *, bare: bool = False) -> URL:
        """Take ``text`` apart; ``bare``: it may be a mere host, with or without a port.

        A path is percent-encoded where it has to be, and left alone where it is; a fragment is
        dropped, for it is never sent. Raises :class:`Failure` for all else than http and https,
        and for user names and passwords, which HTTP has no place for in a URL (RFC 9110 section
        4.2.4).
        """
        if "://" not in text:
            if not bare:
                raise _bad(text, "it has to begin with http:// or https://")
            text = f"https://{text}"
        if not text.isprintable() and re.search(r"[\x00-\x1f\x7f]", text):
            raise _bad(text, "it has a control character")
        match = _FORM.fullmatch(text)
        assert match is not None, "anything with :// in it has this form"
        scheme = match["scheme"].lower()
        if scheme not in _PORTS:
            raise _bad(text, "it has to begin with http:// or https://")
        if "@" in match["authority"]:
            # what is written may be kept, and a password should not be
            shown = f"{scheme}://...@{match['authority'].rpartition('@')[2]}{match['target']}"
            raise _bad(shown, "a user name is not sent; use -H 'authorization: ...'")
        authority = _AUTHORITY.fullmatch(match["authority"])
        if authority is None:
            raise _bad(text, "its host is malformed (an IPv6 address goes into brackets)")
        port = int(authority["port"] or _PORTS[scheme])
        if not 0 < port < 65_536:
            raise _bad(text, "a port is from 1 to 65535")
        target = match["target"]
        if not target.startswith("/"):
            target = f"/{target}"
        return cls(Origin(scheme, _host(authority["host"], text), port), _encode(target))


def _bad(text: str, why: str) -> Failure:
    return Failure(Exit.USAGE, f"bad URL {text!r}: {why}")


def _host(text: str, url: str) -> str:
    if text.startswith("["):
        host = text[1:-1].replace("%25", "%")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _bad(url, f"{text} is no IPv6 address") from None
        return host
    host = unquote(text)
    try:
        # the names of DNS, as in browsers, are sent in ASCII
        ascii_host = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise _bad(url, "its host is malformed") from None
    if not re.fullmatch(r"[a-z0-9._~-]+", ascii_host):
        raise _bad(url, "its host is malformed" if host else "it has no host")
    return ascii_host


def _encode(target: str) -> str:
    # an argument that is not UTF-8 comes with surrogates in place of its bytes
    octets = target.encode("utf-8", "surrogateescape")
    return quote(_STRAY_PERCENT.sub(b"%25", octets), safe=_SAFE)
