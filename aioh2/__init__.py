"""HTTP/2 (RFC 9113) over asyncio, client and server, around python-hyper/h2."""

from __future__ import annotations

from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from .client import open_connection, open_unix_connection
from .config import Config
from .connection import OriginsReceived
from .exceptions import (
    AIOH2Exception,
    ConnectionClosed,
    HandshakeError,
    NotSupported,
    SendException,
    StreamClosed,
    StreamReset,
)
from .handlers import current_stream
from .headers import HeaderInput, HeaderList
from .protocol import Drained, H2Protocol, Stats
from .scheduler import Priority
from .server import Server, start_server, start_unix_server
from .stream import H2Stream

__version__ = "1.0.0.dev0"

__all__ = [
    "AIOH2Exception",
    "Config",
    "ConnectionClosed",
    "Drained",
    "ErrorCodes",
    "H2Protocol",
    "H2Stream",
    "HandshakeError",
    "HeaderInput",
    "HeaderList",
    "NotSupported",
    "OriginsReceived",
    "Priority",
    "SendException",
    "Server",
    "SettingCodes",
    "Stats",
    "StreamClosed",
    "StreamReset",
    "current_stream",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
]
