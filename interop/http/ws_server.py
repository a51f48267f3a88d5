"""A WebSocket server by `websockets`: `ws_server.py NAME PORT`."""

import asyncio
import http
import json
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

ended = {}


async def talk(socket):
    url = urlsplit(socket.request.path)
    name = parse_qs(url.query).get("name", [""])[0]
    _, page, *parts = url.path.split("/")
    try:
        if page == "ended":
            await socket.send(json.dumps(ended.get(name)))
        elif page == "push":
            for number in range(3):
                await socket.send(f"push {number}")
        elif page == "ping":
            await asyncio.wait_for(await socket.ping(b"are you there"), 5)
            await socket.send("pong came")
        elif page == "headers":
            await socket.send(json.dumps([f"{key.lower()}: {value}" for key, value in socket.request.headers.raw_items()
                                          if key.lower().startswith(("x-", "origin", "cookie"))]))
        elif page == "abort":
            await socket.recv()
            socket.transport.abort()
        elif page == "close":
            await socket.recv()
            await socket.close(int(parts[0]), "bye ü")
        else:
            async for message in socket:
                await socket.send(message)
    except ConnectionClosed:
        pass
    await socket.close()
    # Connections that only ask about another one must not stand for it.
    if page != "ended":
        ended[name] = [socket.close_code, socket.close_reason]


def refuse(connection, request):
    if request.path.startswith("/refuse"):
        return connection.respond(http.HTTPStatus.FORBIDDEN, "not you\n")
    return None


def choose(_connection, offered):
    return next((one for one in ("tea.v2", "tea.v1") if one in offered), None)


async def main():
    name, port = sys.argv[1:3]
    async with serve(talk, "127.0.0.1", int(port), process_request=refuse, select_subprotocol=choose,
                     max_size=8 << 20, ping_interval=None):
        print(f"READY {name}", flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
