"""Talks to a WebSocket server by `websockets`: `ws_client.py OUT URL`, or `ws_client.py OUT URL hold SECONDS`.

The outcome of a case is one line of text, equal for every peer and way that does it right.
"""

import asyncio
import json
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

MIB = 1 << 20
PATIENCE_S = 15
cases = {}


def case(name):
    def keep(function):
        cases[name] = function
        return function
    return keep


def opened(url, **options):
    return connect(url, max_size=8 * MIB, ping_interval=None, open_timeout=PATIENCE_S, proxy=None, **options)


async def echoed(url, *messages, **options):
    async with opened(f"{url}/echo", **options) as socket:
        heard = []
        for message in messages:
            await socket.send(message)
            heard.append(await socket.recv())
        return heard


async def ended(url, name):
    """How the server says a named connection ended, as soon as it knows."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        async with opened(f"{url}/ended?name={name}") as socket:
            how = json.loads(await socket.recv())
        if how:
            return how
        await asyncio.sleep(0.02)
    return "not at all within 5 s"


async def until_closed(socket):
    """Messages up to the end, and how it ended."""
    heard = []
    try:
        while True:
            heard.append(await socket.recv())
    except ConnectionClosed:
        return heard, [socket.close_code, socket.close_reason]


@case("message.text")
async def text(url):
    return await echoed(url, "tea 茶 \U0001f375", "", "a\nb")


@case("message.binary")
async def binary(url):
    return [one.hex() for one in await echoed(url, bytes(range(256)), b"")]


@case("message.1 MiB in fragments")
async def fragments(url):
    async with opened(f"{url}/echo") as socket:
        await socket.send(bytes([n % 256]) * 16384 for n in range(64))
        heard = await socket.recv()
        return len(heard), heard == b"".join(bytes([n % 256]) * 16384 for n in range(64))


@case("message.1 MiB at once")
async def at_once(url):
    heard, = await echoed(url, "x" * MIB, compression=None)
    return len(heard)


@case("message.100 in turn")
async def in_turn(url):
    sent = [str(n) for n in range(100)]
    return await echoed(url, *sent) == sent


@case("message.the server speaks first")
async def push(url):
    async with opened(f"{url}/push") as socket:
        return await until_closed(socket)


@case("message.50 connections at once")
async def many(url):
    async def one(number):
        return await echoed(url, *[f"{number} {n}" for n in range(5)]) == [f"{number} {n}" for n in range(5)]
    return sum(await asyncio.gather(*(one(number) for number in range(50))))


@case("ping.by the client")
async def ping(url):
    async with opened(f"{url}/echo") as socket:
        await asyncio.wait_for(await socket.ping(b"hello"), 5)
        return "pong came"


@case("ping.by the server")
async def server_ping(url):
    async with opened(f"{url}/ping") as socket:
        return await socket.recv()


@case("handshake.subprotocol")
async def subprotocol(url):
    async with opened(f"{url}/echo", subprotocols=["tea.v1", "coffee"]) as socket:
        return socket.subprotocol


@case("handshake.compression")
async def compression(url):
    async with opened(f"{url}/echo") as socket:
        return socket.response.headers.get("Sec-WebSocket-Extensions", "none").split(";")[0]


@case("handshake.headers")
async def headers(url):
    sent = {"X-Tea": "green", "Cookie": "a=1; b=2", "Origin": "http://shop.test"}
    async with opened(f"{url}/headers", additional_headers=sent) as socket:
        return sorted(json.loads(await socket.recv()))


@case("handshake.refused")
async def refused(url):
    try:
        async with opened(f"{url}/refuse"):
            return "let in"
    except InvalidStatus as error:
        return error.response.status_code, error.response.body.decode()


@case("close.by the client")
async def close(url):
    async with opened(f"{url}/echo?name=c1") as socket:
        await socket.close(1000, "done")
    return socket.close_code, await ended(url, "c1")


@case("close.by the client, its own code")
async def close_code(url):
    async with opened(f"{url}/echo?name=c2") as socket:
        await socket.close(4321, "späß")
    return socket.close_code, await ended(url, "c2")


@case("close.by the server")
async def server_close(url):
    seen = []
    for code in (1000, 1001, 4000):
        async with opened(f"{url}/close/{code}?name=s{code}") as socket:
            await socket.send("go")
            seen += [await until_closed(socket), await ended(url, f"s{code}")]
    return seen


@case("close.the client is gone")
async def gone(url):
    async with opened(f"{url}/echo?name=gone") as socket:
        await socket.send("a")
        heard = await socket.recv()
        socket.transport.abort()
    return heard, await ended(url, "gone")


@case("close.the server is gone")
async def server_gone(url):
    async with opened(f"{url}/abort") as socket:
        await socket.send("a")
        return await until_closed(socket)


async def hold(url, seconds):
    """One connection kept for long, with a message every 20 ms."""
    sent, right = 0, 0
    async with opened(f"{url}/echo?name=hold") as socket:
        print("STARTED", flush=True)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await socket.send(str(sent))
            right += await asyncio.wait_for(socket.recv(), 5) == str(sent)
            sent += 1
            await asyncio.sleep(0.02)
    return {"sent": sent, "right": right, "ended": [socket.close_code, await ended(url, "hold")]}


async def outcome(function, url):
    try:
        return "ok " + json.dumps(await asyncio.wait_for(function(url), PATIENCE_S), ensure_ascii=False)
    except Exception as error:  # A surprise is an outcome too: it is compared like any other.
        return f"surprise {type(error).__name__}: {error}"


async def main():
    out, url, *mode = sys.argv[1:]
    if mode:
        results = await hold(url, float(mode[1]))
    else:
        results = {name: await outcome(function, url) for name, function in cases.items()}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(results, file, ensure_ascii=False, indent=1)


asyncio.run(main())
