"""Server and client in one run: the server greets whom the request's body names."""

import asyncio

import aioh2


async def on_connected(protocol: aioh2.H2Protocol) -> None:
    while True:  # until the connection ends, which cancels this task
        stream_id, _headers = await protocol.recv_request()
        await protocol.start_response(stream_id, {":status": "200"})
        await protocol.send_data(stream_id, b"hello, ")
        name = await protocol.read_stream(stream_id, -1)
        await protocol.send_data(stream_id, name)
        await protocol.send_trailers(stream_id, {"len": str(len(name))})


async def main() -> None:
    server = await aioh2.start_server(
        lambda p: asyncio.get_event_loop().create_task(on_connected(p)), port=0, concurrency=3
    )
    port = server.sockets[0].getsockname()[1]
    client = await aioh2.open_connection("0.0.0.0", port, functional_timeout=0.1)
    async with server, client:
        await client.wait_functional()
        print(f"Round-trip time: {await client.ping() * 1000:.1f} ms")

        stream_id = await client.start_request({":method": "GET", ":path": "/index.html"})
        await client.send_data(stream_id, b"world", end_stream=True)
        print("Response headers:", await client.recv_response(stream_id))
        print("Response body:", (await client.read_stream(stream_id, -1)).decode())
        print("Response trailers:", await client.recv_trailers(stream_id))


if __name__ == "__main__":
    asyncio.run(main())
