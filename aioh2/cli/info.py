"""``info URL``: what a server says of itself, in TLS, in SETTINGS and in other frames."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import ssl
from collections.abc import Iterator
from typing import Any

import h2.events
from h2.settings import SettingCodes

from ..connection import OriginsReceived
from ..exceptions import AIOH2Exception
from ..protocol import H2Protocol
from . import connecting
from .connecting import Connector, seconds
from .exits import Exit
from .terminal import Notes
from .urls import URL

__all__ = ["add", "run"]

# RFC 9218 section 2.1
_NO_RFC7540_PRIORITIES = 9
# What a server that says nothing has, where h2 knows of none.
_UNSAID = {
    "MAX_CONCURRENT_STREAMS": None,
    "ENABLE_CONNECT_PROTOCOL": 0,
    "NO_RFC7540_PRIORITIES": 0,
}
_PINGS = 3


def add(parsers: Any) -> None:
    """Add the command."""
    parser = parsers.add_parser(
        "info",
        help="show TLS, settings and extensions of a server",
        epilog="It sends three PINGs and one HEAD request.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("url", metavar="URL", help="a URL, or HOST or HOST:PORT (over TLS)")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=10,
        metavar="SECONDS",
        help="for the answers to the PINGs and the request; default: 10",
    )
    parser.add_argument("--json", action="store_true", help="write it as one JSON object")
    connecting.add_options(parser)


class Informed(H2Protocol):
    """A connection that keeps what the server announces."""

    def __init__(self, client_side: bool, **options: Any) -> None:
        super().__init__(client_side, **options)
        #: What ALTSVC frames said, as (origin, field value); "" is the origin of a request.
        self.alternatives: list[tuple[str, str]] = []
        #: What ORIGIN frames said; None: there was none.
        self.origins: list[str] | None = None
        #: The settings that the server has sent, by name.
        self.sent: dict[str, int] = {}

    def event_received(self, event: h2.events.Event) -> None:
        """Keep it, and handle it."""
        super().event_received(event)
        if isinstance(event, h2.events.RemoteSettingsChanged):
            for code, setting in event.changed_settings.items():
                self.sent[_name(code)] = setting.new_value
        elif isinstance(event, h2.events.AlternativeServiceAvailable):
            pair = (_text(event.origin), _text(event.field_value))
            self.alternatives.append(pair)
        elif isinstance(event, OriginsReceived):
            self.origins = [*(self.origins or []), *map(_text, event.origins)]


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _name(code: int) -> str:
    if code == _NO_RFC7540_PRIORITIES:
        return "NO_RFC7540_PRIORITIES"
    try:
        return SettingCodes(code).name
    except ValueError:
        return f"{code:#x}"


async def run(options: argparse.Namespace) -> Exit:
    """Ask, and write what is found; return the exit code."""
    url = URL.parse(options.url, bare=True)
    connector = Connector(options, [url])
    async with await connector.connect(url.origin, Informed) as protocol:
        told: dict[str, Any] = {"url": str(url), "address": _address(protocol)}
        told["tls"] = _tls(protocol)
        error = None
        try:
            async with asyncio.timeout(options.timeout):
                told["rtt_ms"] = [await protocol.ping() * 1000 for _ in range(_PINGS)]
                told["response"] = await _head(protocol, url)
        except TimeoutError:
            error = f"no answer within {options.timeout:g} s"
        except AIOH2Exception as caught:
            error = str(caught)
        told |= _announced(protocol)
    told["error"] = error
    if options.json:
        print(json.dumps(told, indent=2))
    else:
        for line in _lines(told):
            print(line)
    if error is None:
        return Exit.OK
    Notes().say(f"{url}: {error}")
    return Exit.STREAM


def _address(protocol: H2Protocol) -> str:
    peer = protocol.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return str(peer)
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


async def _head(protocol: H2Protocol, url: URL) -> dict[str, Any]:
    request = {
        ":method": "HEAD",
        ":authority": url.origin.authority,
        ":path": url.path,
        "user-agent": "aioh2",
    }
    async with protocol.open_stream(request, end_stream=True) as stream:
        headers = dict[Any, Any](await stream.recv_response())
        await stream.recv_trailers()
    return {
        "status": int(headers[":status"]),
        "server": headers.get("server"),
        "alt-svc": headers.get("alt-svc"),
    }


def _announced(protocol: Informed) -> dict[str, Any]:
    in_force = {_name(code): value for code, value in protocol.remote_settings.items()}
    if "ENABLE_PUSH" not in protocol.sent:
        # it is a client's (RFC 9113 section 6.5.2)
        in_force.pop("ENABLE_PUSH", None)
    settings = _UNSAID | in_force
    return {
        "settings": settings,
        "settings_sent": protocol.sent,
        "rfc7540_priorities": not settings["NO_RFC7540_PRIORITIES"],
        "extended_connect": bool(settings["ENABLE_CONNECT_PROTOCOL"]),
        "altsvc": [{"origin": origin, "field": field} for origin, field in protocol.alternatives],
        "origins": protocol.origins,
    }


# --- TLS -----------------------------------------------------------------------------------


def _tls(protocol: H2Protocol) -> dict[str, Any] | None:
    connection = protocol.get_extra_info("ssl_object")
    if connection is None:
        return None
    cipher, _, bits = connection.cipher()
    return {
        "version": connection.version(),
        "cipher": cipher,
        "bits": bits,
        "alpn": connection.selected_alpn_protocol(),
        "certificate": _certificate(connection),
    }


def _certificate(connection: ssl.SSLObject) -> dict[str, Any]:
    octets = connection.getpeercert(binary_form=True)
    assert octets is not None, "a server has one"
    checked = bool(connection.getpeercert())
    # the standard library reads what it has checked; else what could be an authority
    read = connection.getpeercert() or _read(octets) or {}
    return {
        "checked": checked,
        "subject": _names(read.get("subject")) or None,
        "issuer": _names(read.get("issuer")) or None,
        "names": [pair[1] for pair in read.get("subjectAltName", ())],
        "not_before": read.get("notBefore"),
        "not_after": read.get("notAfter"),
        "sha256": hashlib.sha256(octets).hexdigest(),
    }


def _read(octets: bytes) -> dict[str, Any] | None:
    """Return what stands in a certificate that was not checked, where it signs itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=octets)
    authorities = context.get_ca_certs()
    return authorities[0] if authorities else None


def _names(name: Any) -> str:
    return ", ".join(f"{key}={value}" for part in name or () for key, value in part)


# --- for people ----------------------------------------------------------------------------


def _lines(told: dict[str, Any]) -> Iterator[str]:
    yield told["url"]
    yield _line("address", told["address"])
    yield from _lines_of_tls(told["tls"])
    if "rtt_ms" in told:
        times = told["rtt_ms"]
        yield _line("round trip", f"{min(times):.3f} ms, the least of {len(times)}")
    if "response" in told:
        response = told["response"]
        yield _line("HEAD", response["status"])
        for name in ("server", "alt-svc"):
            if response[name] is not None:
                yield _line(f"  {name}", response[name])
    yield "settings"
    for name, value in told["settings"].items():
        words = "no limit" if value is None else value
        sent = name in told["settings_sent"]
        yield _line(f"  {name}", words if sent else f"{words} (default)")
    both = "those of RFC 7540 are not ruled out"
    yield _line("priorities", both if told["rfc7540_priorities"] else "RFC 9218 only")
    yield _line("extended CONNECT", "yes (RFC 8441)" if told["extended_connect"] else "no")
    if not told["altsvc"]:
        yield _line("ALTSVC", "none")
    for alternative in told["altsvc"]:
        yield _line("ALTSVC", f"{alternative['field']} (of {alternative['origin'] or told['url']})")
    origins = told["origins"]
    yield _line("ORIGIN", "none" if origins is None else ", ".join(origins) or "its own only")


def _lines_of_tls(tls: dict[str, Any] | None) -> Iterator[str]:
    if tls is None:
        yield _line("TLS", "none; HTTP/2 by prior knowledge")
        return
    yield _line("TLS", f"{tls['version']}, {tls['cipher']} ({tls['bits']} bits)")
    yield _line("ALPN", tls["alpn"])
    certificate = tls["certificate"]
    yield _line("certificate", "checked" if certificate["checked"] else "NOT checked (--insecure)")
    for key in ("subject", "issuer", "names", "not_before", "not_after", "sha256"):
        value = certificate[key]
        if value:
            words = ", ".join(value) if key == "names" else value
            yield _line(f"  {key.replace('_', ' ')}", words)


def _line(name: str, value: object) -> str:
    return f"{name:<28} {value}"
