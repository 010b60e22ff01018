"""Connections for the commands: their options, and what is said where there is none."""

from __future__ import annotations

import argparse
import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, TypeVar

from ..client import open_connection, open_unix_connection
from ..exceptions import AIOH2Exception, HandshakeError
from ..protocol import H2Protocol
from .exits import Exit, Failure, explain
from .urls import URL, Origin

__all__ = ["Connector", "add_options", "load_certificate", "seconds"]

ProtocolT = TypeVar("ProtocolT", bound=H2Protocol)

# Seconds that the end may take: who waits at a terminal has seen all there is to see.
_CLOSE_TIMEOUT = 2


def seconds(text: str) -> float:
    """Return a time limit in seconds; for argparse."""
    value = float(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1,000,000 seconds")
    return value


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every connection of a client has."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--connect-timeout",
        type=seconds,
        default=10,
        metavar="SECONDS",
        help="for TCP, TLS and the server's SETTINGS; default: 10",
    )
    group.add_argument("--unix", metavar="PATH", help="connect to this Unix socket")
    group.add_argument(
        "--http2-prior-knowledge",
        action="store_true",
        help="HTTP/2 without TLS: always so for http://, and accepted for the sake of habit",
    )
    group.add_argument("--cacert", metavar="FILE", help="trust these authorities (PEM) only")
    group.add_argument("--insecure", action="store_true", help="do not check the certificate")
    group.add_argument("--cert", metavar="FILE", help="client certificate chain (PEM)")
    group.add_argument("--key", metavar="FILE", help="its key (PEM); default: in the same file")


def load_certificate(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Load a certificate chain with its key; raise :class:`Failure` where that is impossible."""
    try:
        # with a password of its own, as OpenSSL would ask for one at the terminal
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        why = error.reason or "no certificate with its key, or it needs a password"
        raise Failure(Exit.USAGE, f"{cert}: {why}") from None
    except OSError as error:
        names = cert if key is None else f"{cert} or {key}"
        raise Failure(Exit.USAGE, f"{names}: {explain(error)}") from None


class Connector:
    """Makes connections for ``urls``; raises :class:`Failure` for options that are wrong."""

    def __init__(self, options: argparse.Namespace, urls: Iterable[URL]) -> None:
        self._options = options
        if options.key and not options.cert:
            raise Failure(Exit.USAGE, "--key goes with --cert")
        # One for all connections, made before the first: to read all authorities takes long.
        self._context: ssl.SSLContext | None = None
        if options.cacert or options.cert or any(u.origin.scheme == "https" for u in urls):
            self._context = self._make_context()

    def _make_context(self) -> ssl.SSLContext:
        options = self._options
        try:
            context = ssl.create_default_context(cafile=options.cacert)
        except ssl.SSLError:
            raise Failure(Exit.USAGE, f"{options.cacert}: no certificates (PEM)") from None
        except OSError as error:
            raise Failure(Exit.USAGE, f"{options.cacert}: {explain(error)}") from None
        if options.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if options.cert:
            load_certificate(context, options.cert, options.key)
        return context

    async def connect(self, origin: Origin, cls: type[ProtocolT]) -> ProtocolT:
        """Connect; raise :class:`Failure` with what went wrong."""
        try:
            return await self._connect(origin, cls)
        except ssl.SSLCertVerificationError as error:
            why = f"{error.verify_message.rstrip('.')}; --cacert FILE trusts its authority"
        except ssl.SSLError as error:
            why = f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
            if error.reason == "WRONG_VERSION_NUMBER":
                why += "; a server without TLS is at http://"
        except (HandshakeError, AIOH2Exception) as error:
            why = str(error)
        except OSError as error:
            why = explain(error)
        # asyncio closes what a failed handshake leaves in a turn of its own
        await asyncio.sleep(0)
        raise Failure(Exit.CONNECTION, f"no connection to {self.place(origin)}: {why}")

    def place(self, origin: Origin) -> str:
        """Return where connections to an origin go, for people."""
        return f"{origin} at {self._options.unix}" if self._options.unix else str(origin)

    async def _connect(self, origin: Origin, cls: type[ProtocolT]) -> ProtocolT:
        context = self._context if origin.scheme == "https" else None
        limits: dict[str, Any] = {
            "open_timeout": self._options.connect_timeout,
            "close_timeout": _CLOSE_TIMEOUT,
        }
        if self._options.unix is None:
            host, port = origin.host, origin.port
            opening = open_connection(host, port, cls=cls, ssl=context, **limits)
        else:
            if context is not None:
                limits["server_hostname"] = origin.host
            opening = open_unix_connection(self._options.unix, cls=cls, ssl=context, **limits)
        protocol: ProtocolT = await opening
        return protocol
