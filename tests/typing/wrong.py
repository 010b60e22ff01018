"""Uses of aioh2 that are wrong: each is an error to mypy and to pyright.

Where one of the two lets something through, its ``type: ignore`` is unused, which both report.
"""

from __future__ import annotations

import aioh2


class Session(aioh2.H2Protocol):
    """A protocol of the application's."""

    user = "nobody"


class Watching(aioh2.H2Protocol):
    """Takes what is no event."""

    def event_received(self, event: int) -> None:  # type: ignore[override]
        """Watch, or try to."""


async def greet(stream: aioh2.H2Stream) -> None:
    """A handler of streams."""
    await stream.start_response({":status": "200"}, end_stream=True)


def answer(stream: aioh2.H2Stream) -> bytes:
    """A handler that is no coroutine."""
    return b""


async def serve(session: Session) -> None:
    """A callback for one class of protocols only."""
    await session.serve(answer)  # type: ignore[arg-type]
    await session.serve(greet)
    for _ in session:  # type: ignore[attr-defined]
        pass


async def connect() -> None:
    """What comes before a request."""
    connection = await aioh2.open_connection("localhost", 8000)
    print(connection.user)  # type: ignore[attr-defined]
    connection.rtt = 1.0  # type: ignore[misc]
    connection.stats.bytes_sent = 0  # type: ignore[misc]
    connection.config.concurrency = 1  # type: ignore[misc]
    connection.update_settings({"header_table_size": 0})  # type: ignore[arg-type]
    await aioh2.open_connection("localhost", "8000")  # type: ignore[call-overload]
    await aioh2.open_connection("localhost", cls=int)  # type: ignore[type-var]
    await aioh2.open_connection("localhost", ssl="yes")  # type: ignore[call-overload]
    with aioh2.open_connection("localhost"):  # type: ignore[attr-defined]
        pass
    aioh2.open_unix_connection("/run/it").ping()  # type: ignore[attr-defined]
    aioh2.H2Protocol()  # type: ignore[call-arg]
    aioh2.Config(concurency=5)  # type: ignore[call-arg]
    aioh2.Config(concurrency="5")  # type: ignore[arg-type]
    aioh2.Config(reset_budget=200)  # type: ignore[arg-type]
    aioh2.Config(5)  # type: ignore[call-arg]
    aioh2.Priority(urgency="high")  # type: ignore[arg-type]


async def request(connection: aioh2.H2Protocol, stream: aioh2.H2Stream) -> None:
    """Requests and responses."""
    await connection.start_request("GET /")  # type: ignore[arg-type]
    await connection.start_request({":path": 1})  # type: ignore[arg-type]
    await connection.start_request([":path", "/"])  # type: ignore[list-item]
    await connection.start_request({}, True)  # type: ignore[call-arg]
    await connection.open_stream({}, priority=3)  # type: ignore[arg-type]
    await connection.send_data("1", b"")  # type: ignore[arg-type]
    await connection.start_response(1, {}, end=True)  # type: ignore[call-arg]
    await stream.send_data("text")  # type: ignore[arg-type]
    await stream.send_data(None)  # type: ignore[arg-type]
    await stream.read("all")  # type: ignore[arg-type]
    stream.reset("CANCEL")  # type: ignore[arg-type]
    stream.set_priority(3)  # type: ignore[arg-type]
    if stream.blocked_on == "window":  # type: ignore[comparison-overlap]
        print(stream)
    response: dict[bytes, bytes] = dict(await stream.recv_response())  # type: ignore[arg-type]
    print(response)
    interim = await stream.recv_informational()
    dict(interim)  # type: ignore[arg-type]
    pushed = await stream.recv_push()
    print(pushed.id)  # type: ignore[union-attr]


async def start() -> None:
    """Servers."""
    await aioh2.start_server(greet)  # type: ignore[arg-type]
    await aioh2.start_server(serve)  # type: ignore[arg-type]
    await aioh2.start_server(serve, cls=Watching)  # type: ignore[arg-type]
    await aioh2.start_server(lambda protocol: 1)  # type: ignore[arg-type, return-value]
    await aioh2.start_server(lambda: None)  # type: ignore[arg-type, misc]
    await aioh2.start_server(serve, cls=Session, ssl=True)  # type: ignore[call-overload]
    server = await aioh2.start_server(serve, cls=Session)
    wrong: aioh2.Server[Watching] = server  # type: ignore[assignment]
    await wrong.shutdown("now")  # type: ignore[arg-type]
    aioh2.H2Protocol(False).set_handler(serve)  # type: ignore[arg-type]


def fail(error: aioh2.StreamReset) -> None:
    """Errors."""
    print(error.data)  # type: ignore[attr-defined]
    if error.initiator == "server":  # type: ignore[comparison-overlap]
        print(error)
