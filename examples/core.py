"""A server and a client in one run: a request with a body, its response, and trailers."""

import asyncio

import aioh2


async def on_request(protocol, stream_id):
    body = await protocol.read_stream(stream_id, -1)
    answer = b"hello, " + body
    await protocol.start_response(stream_id, {":status": "200"})
    await protocol.send_data(stream_id, answer)
    await protocol.send_trailers(stream_id, {"len": str(len(answer))})


async def on_connected(protocol):
    while True:
        stream_id, headers = await protocol.recv_request()
        await on_request(protocol, stream_id)


async def main():
    server = await aioh2.start_server(
        lambda p: asyncio.get_event_loop().create_task(on_connected(p)), port=0, concurrency=3)
    port = server.sockets[0].getsockname()[1]
    client = await aioh2.open_connection('0.0.0.0', port, functional_timeout=0.1)
    async with server, client:
        await client.wait_functional()
        print(f"round-trip time: {await client.ping() * 1000:.1f} ms")
        stream_id = await client.start_request({':method': 'GET', ':path': '/index.html'})
        await client.send_data(stream_id, b"world", end_stream=True)
        print(await client.recv_response(stream_id))
        print((await client.read_stream(stream_id, -1)).decode())
        print(await client.recv_trailers(stream_id))


if __name__ == "__main__":
    asyncio.run(main())
