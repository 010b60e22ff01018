"""What programs that use aioh2 are tested with.

No socket, no waiting, and a peer that does what the test says: a pair of protocols over memory,
with a delay and a bandwidth if wanted; an event loop whose time passes only where everybody waits;
a scripted peer, legal or not; and a check that a connection has left nothing behind.
"""

from __future__ import annotations

from .leaks import assert_no_leaks, left_behind
from .loop import VirtualTimeLoop, virtual_time
from .pair import connected_pair
from .peer import ScriptedPeer
from .transports import MemoryTransport, connect

__all__ = [
    "MemoryTransport",
    "ScriptedPeer",
    "VirtualTimeLoop",
    "assert_no_leaks",
    "connect",
    "connected_pair",
    "left_behind",
    "virtual_time",
]
