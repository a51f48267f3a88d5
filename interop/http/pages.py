"""What the origin answers, by the first part of the path."""

import asyncio
import gzip
import http
from urllib.parse import parse_qs, urlsplit

GZIPPED = gzip.compress(b"squeeze me " * 1000, mtime=0)
PATTERN = bytes(range(256)) * 256
ETAG = '"tea"'


def reason(status):
    """The usual phrase of a status."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unusual"


def contents(size, start=0):
    """`size` bytes of an endless pattern."""
    start %= len(PATTERN)
    return (PATTERN * (size // len(PATTERN) + 2))[start:start + size]


async def answer(exchange):
    """Reads the request and answers it."""
    url = urlsplit(exchange.target)
    parts = url.path.split("/")
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    page = PAGES.get(parts[1] if len(parts) > 1 else "", echo)
    await page(exchange, parts[2:], query)


async def received(exchange):
    """Reads the body, after the leave to send it if the caller waits for one."""
    if (exchange.header("expect") or "").lower() == "100-continue":
        await exchange.informational(100)
    return await exchange.body()


async def echo(exchange, _parts, _query):
    digest = await received(exchange)
    text = f"{exchange.method} {exchange.size} {digest}\n".encode()
    await exchange.reply(200, [("Content-Type", "text/plain"), ("X-Origin", "A")], text)


async def status(exchange, parts, query):
    await received(exchange)
    code = int(parts[0])
    if code in (204, 304):
        await exchange.start(code, [("X-Origin", "A"), ("ETag", ETAG)], reason=query.get("reason"))
        await exchange.finish()
    else:
        await exchange.reply(code, [("X-Origin", "A")], b"so be it\n", reason=query.get("reason"))


async def sized(exchange, parts, _query):
    """/bytes/N: as many bytes, in parts if asked."""
    await received(exchange)
    size = int(parts[0])
    asked = exchange.header("range")
    headers = [("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes"), ("ETag", ETAG)]
    if exchange.header("if-none-match") == ETAG:
        await exchange.start(304, [("ETag", ETAG)])
        return await exchange.finish()
    start, end = 0, size
    if asked:
        first, last = asked.removeprefix("bytes=").split("-")
        start, end = int(first), int(last or size - 1) + 1
        if start >= size:
            return await exchange.reply(416, [*headers, ("Content-Range", f"bytes */{size}")])
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
    await exchange.start(206 if asked else 200, [*headers, ("Content-Length", str(end - start))])
    while start < end:
        piece = min(end - start, len(PATTERN))
        await exchange.write(contents(piece, start))
        start += piece
    await exchange.finish()


async def chunked(exchange, parts, query):
    """/chunked/COUNT/SIZE: so many pieces; with ?trailers, trailers after them."""
    await received(exchange)
    trailers = [("X-Checksum", "abc"), ("X-Other", "d, e")] if "trailers" in query else []
    announced = [("Trailer", "X-Checksum, X-Other")] if trailers else []
    await exchange.start(200, [("Content-Type", "text/plain"), *announced])
    for _ in range(int(parts[0])):
        await exchange.write(contents(int(parts[1])))
    await exchange.finish(trailers)


async def zipped(exchange, _parts, _query):
    await received(exchange)
    await exchange.reply(200, [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")], GZIPPED)


async def headers(exchange, _parts, _query):
    """Headers that a careless proxy merges, sorts, drops or changes."""
    await received(exchange)
    await exchange.reply(200, [
        ("Set-Cookie", "a=1; Path=/; HttpOnly"), ("X-One", "1"), ("Set-Cookie", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
        ("X-Two", "2"), ("X-One", "3"), ("Set-Cookie", "c=\"3\""), ("X-Empty", ""), ("X-!#$%&'*+-.^_`|~9", "odd"),
        ("X-Latin", "caf\xe9"), ("X-Long", "l" * 8192), ("WWW-Authenticate", 'Basic realm="x", Digest y=z'),
        ("Server", "origin/1"), ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Content-Type", "text/plain")], b"h\n")


async def hints(exchange, _parts, _query):
    await received(exchange)
    await exchange.informational(103, [("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
    await exchange.reply(200, [("X-Origin", "A")], b"after the hints\n")


async def redirect(exchange, _parts, query):
    await received(exchange)
    await exchange.reply(int(query["status"]), [("Location", query["to"])])


async def sse(exchange, parts, _query):
    """Events, each only after the test says that it has the one before."""
    await received(exchange)
    await exchange.start(200, [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])
    for number in range(int(parts[1])):
        await exchange.write(f"data: {number}\n\n".encode())
        await asyncio.wait_for(exchange.origin.event(f"{parts[0]}/{number}").wait(), 10)
    await exchange.finish()


async def slow(exchange, parts, _query):
    """/slow/COUNT: so many small pieces, 40 ms apart."""
    await received(exchange)
    await exchange.start(200, [("Content-Type", "text/plain")])
    for _ in range(int(parts[0])):
        await exchange.write(b"drop\n")
        await asyncio.sleep(0.04)
    await exchange.finish()


async def refuse(exchange, parts, _query):
    """Says no by the head alone, without asking for the body."""
    exchange.close = True
    await exchange.reply(int(parts[0]), [("Connection", "close")] if exchange.seen["version"] != "2" else [], b"no\n")


async def early(exchange, _parts, _query):
    """Replies before it reads the body."""
    await exchange.reply(200, [("X-Origin", "A")], b"early\n")
    await exchange.body()


async def reset(exchange, _parts, _query):
    """Takes the request and ends the connection without a word."""
    await received(exchange)
    await exchange.end()


async def slam(exchange, _parts, _query):
    """Replies, and closes a connection that it just promised to keep."""
    await received(exchange)
    await exchange.reply(200, [("X-Origin", "A")], b"slam\n")
    if exchange.seen["version"] != "2":
        await exchange.end()


async def cut(exchange, parts, _query):
    """Half a reply: /cut/length or /cut/chunked."""
    await received(exchange)
    await exchange.start(200, [("Content-Length", "1000")] if parts[0] == "length" else [])
    await exchange.write(contents(500))
    await exchange.end()


async def hang(exchange, _parts, _query):
    await received(exchange)
    await asyncio.sleep(60)


async def old(exchange, parts, _query):
    """Replies of other times and kinds: /old/1.0, /old/eof, /old/close."""
    await received(exchange)
    exchange.close = True
    if parts[0] == "1.0":
        await exchange.start(200, [("Content-Type", "text/plain"), ("Content-Length", "4")], version="1.0")
    elif parts[0] == "close":
        await exchange.start(200, [("Connection", "close"), ("Content-Length", "4")])
    else:
        await exchange.start(200, [("Connection", "close"), ("Content-Type", "text/plain")])
    await exchange.write(b"old\n")


async def control(exchange, parts, _query):
    """The test's own requests: /control/release/EVENT and /control/progress/TARGET."""
    if parts[0] == "release":
        exchange.origin.event("/".join(parts[1:])).set()
    progress = exchange.origin.progress.get("/" + "/".join(parts[1:]), 0)
    await exchange.reply(200, [], str(progress).encode())


PAGES = {
    "status": status, "bytes": sized, "chunked": chunked, "gzip": zipped, "headers": headers, "hints": hints,
    "redirect": redirect, "sse": sse, "slow": slow, "refuse": refuse, "early": early, "reset": reset, "slam": slam,
    "cut": cut, "hang": hang, "old": old, "control": control,
}
