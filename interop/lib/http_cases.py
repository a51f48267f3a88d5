"""What is asked of HTTP: each case gives a reply, requests the origin saw, or plain facts.

A case is run in the versions of HTTP it names; its facts must be the same directly and through sidecars.
"""

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from curl import Reply, seen_text, sha1
from harness import Failure, wait_until

MIB = 1 << 20
CASES = {}


@dataclass
class Case:
    name: str
    versions: tuple
    run: object


def case(name, versions=(1, 2)):
    def keep(function):
        CASES[name] = Case(name, versions, function)
        return function
    return keep


def shown(result, loose):
    """A case's result as text."""
    if isinstance(result, Reply):
        return result.text(loose)
    if isinstance(result, dict):
        return seen_text(result, loose)
    if isinstance(result, (list, tuple)):
        return " || ".join(shown(part, loose) for part in result if part != [])
    return str(result)


# --- Methods and bodies -----------------------------------------------------------------------------------------

def simple(name, path, *args, seen=1, versions=(1, 2)):
    case(name, versions)(lambda http: http.both(path, *args, seen=seen))


def data(size):
    return ("-H", "Content-Type: text/plain", "--data-binary", "x" * size)


simple("method.GET", "/echo")
simple("method.HEAD", "/bytes/1234", "-I")
simple("method.HEAD of a page without length", "/chunked/3/10", "-I")
simple("method.POST", "/echo", *data(5))
simple("method.POST without a body", "/echo", "-X", "POST", "-d", "")
simple("method.PUT", "/echo", "-X", "PUT", *data(1000))
simple("method.PATCH", "/echo", "-X", "PATCH", *data(1000))
simple("method.DELETE", "/echo", "-X", "DELETE")
simple("method.DELETE with a body", "/echo", "-X", "DELETE", *data(9))
simple("method.GET with a body", "/echo", "-X", "GET", *data(9))
simple("method.OPTIONS", "/echo", "-X", "OPTIONS")
simple("method.OPTIONS of the server", "/", "-X", "OPTIONS", "--request-target", "*")
simple("method.of its own", "/echo", "-X", "PURGE-ALL")

simple("status.201", "/status/201", *data(3))
simple("status.204", "/status/204")
simple("status.304", "/status/304")
simple("status.304 by the ETag", "/bytes/100", "-H", 'If-None-Match: "tea"')
simple("status.404", "/status/404")
simple("status.418", "/status/418")
simple("status.500", "/status/500")
simple("status.503", "/status/503")
simple("status.599", "/status/599")
simple("status.reason of its own", "/status/299?reason=Very+fine", versions=(1,))
simple("status.no reason", "/status/200?reason=", versions=(1,))

simple("part.first", "/bytes/100000", "-r", "0-99")
simple("part.middle", "/bytes/100000", "-r", "5000-5999")
simple("part.beyond", "/bytes/100", "-r", "200-300")

simple("body.empty", "/bytes/0")
simple("body.chunked", "/chunked/5/1000")
simple("body.chunked, no chunk", "/chunked/0/1")
simple("body.chunked, with trailers", "/chunked/3/10?trailers=1", "-H", "TE: trailers")
simple("body.gzip as it is", "/gzip", "-H", "Accept-Encoding: gzip")
simple("body.until the end of the connection", "/old/eof", versions=(1,))
simple("body.HTTP/1.0 reply", "/old/1.0", versions=(1,))
simple("body.reply that closes", "/old/close", versions=(1,))
simple("body.slow reply", "/slow/10")
simple("body.replied to before it was read", "/early", *data(3))


@case("body.64 MiB up")
def large_up(http):
    reply, seen = http.both("/echo", "-T", large_file(http), "-H", "Expect:")
    return reply, [(one["complete"], one["bytes"], one["sha1"][:12]) for one in seen]


@case("body.64 MiB up, chunked", versions=(1,))
def large_chunked(http):
    reply, seen = http.both("/echo", "-T", large_file(http), "-H", "Expect:", "-H", "Transfer-Encoding: chunked")
    return reply, [(one["complete"], one["bytes"], one["sha1"][:12]) for one in seen]


def large_file(http):
    path = Path(http.folder) / "large"
    if not path.exists():
        path.write_bytes(bytes(range(256)) * (64 * MIB // 256))
    return str(path)


simple("body.64 MiB down", f"/bytes/{64 * MIB}")
simple("body.4 MiB down in small chunks", "/chunked/4096/1024")


@case("body.sent piece by piece arrives so")
def slow_upload(http):
    target = f"/up-{time.monotonic_ns()}"
    running = http.start(target, "-T", "-", "-H", "Expect:")
    try:
        for number in range(1, 6):
            running.stdin.write(b"p" * 10)
            wait_until(lambda: http.origin.received(target) == number * 10, 5, f"piece {number} at the origin")
        running.stdin.close()
        text = running.stdout.read().decode()
    finally:
        running.kill()
        running.wait()
    seen = http.origin.new(1)
    return text, [(one["complete"], one["bytes"]) for one in seen]


@case("body.events arrive one by one")
def events(http):
    name = f"tea-{time.monotonic_ns()}"
    running = http.start(f"/sse/{name}/5")
    heard = []
    try:
        for number in range(5):
            # The origin sends the next event only once told that this one came.
            heard.append(running.stdout.readline().decode().strip())
            running.stdout.readline()
            http.origin.release(f"{name}/{number}")
        heard.append(running.stdout.read().decode())
        code = running.wait(5)
    finally:
        running.kill()
        running.wait()
    http.origin.new(1)
    return heard, code


@case("body.request trailers", versions=(1,))
def request_trailers(http):
    got = http.raw(b"POST /echo HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n"
                   b"Trailer: X-Sum\r\nConnection: close, TE\r\n\r\n5\r\nhello\r\n", b"3;note=x\r\nyou\r\n0\r\nX-Sum: 8\r\n\r\n")
    return got.split("\r\n")[0], http.origin.new(1)


# --- Expect: 100-continue, interim replies ----------------------------------------------------------------------

EXPECT = ("-H", "Expect: 100-continue", "--expect100-timeout", "10")
simple("expect.continued", "/echo", *EXPECT, *data(2000), versions=(1,))
simple("expect.refused with 417", "/refuse/417", *EXPECT, *data(2000), versions=(1,))
simple("expect.refused with 413", "/refuse/413", *EXPECT, *data(2000), versions=(1,))
simple("interim.103 early hints", "/hints")


# --- Headers ----------------------------------------------------------------------------------------------------

simple("header.of a reply, in order and apart", "/headers")
simple("header.twice, in order", "/echo", "-H", "X-One: 1", "-H", "X-Two: 2", "-H", "X-One: 3, 4")
simple("header.cookies", "/echo", "-H", "Cookie: a=1; b=\"2\"; c")
simple("header.odd names", "/echo", "-H", "X-!#$%&'*+-.^_`|~9: odd", "-H", "x_under: 1", "-H", "9: 9")
simple("header.odd values", "/echo", "-H", "X-Bytes: caf\u00e9 \u8336", "-H", "X-Tab: a\tb", "-H", 'X-Q: "a, b"; c=\\d')
simple("header.empty", "/echo", "-H", "X-Empty;")
simple("header.32 KiB", "/echo", "-H", "X-Long: " + "l" * 32768)
simple("header.120 of them", "/echo", *[part for n in range(120) for part in ("-H", f"X-{n}: {n}")])
simple("header.320 KiB is too much", "/echo", *[part for n in range(20) for part in ("-H", f"X-{n}: " + "l" * 16384)],
       seen=0)
simple("header.of the connection", "/echo", "-H", "Connection: X-Hop, close", "-H", "X-Hop: 1", "-H", "Keep-Alive: 5",
       "-H", "Proxy-Connection: keep-alive", "-H", "X-End: 2", versions=(1,))

simple("target.8 KiB", "/echo/" + "u" * 8192)
simple("target.query", "/echo?a=%20&b=[1]&c={x}&a=2&&=")
simple("target.escapes stay", "/echo/%2F%2e%2E%41%00/caf%C3%A9")
simple("target.slashes and dots stay", "/echo//a/./b/../c;p=1")
simple("target.odd characters", "/echo/!$&'()*+,;=:@~|^")

for number in (301, 302, 307, 308):
    simple(f"redirect.{number}", f"/redirect?status={number}&to=/echo")
simple("redirect.elsewhere", "/redirect?status=302&to=https://other.test/a%3Fb")


# --- Connections ------------------------------------------------------------------------------------------------

def connections(reply):
    """Connections curl made for each of several requests."""
    return reply.written.split()


def urls(http, count, path="/echo"):
    return [part for _ in range(count - 1) for part in ("-o", str(http.folder / "other"), http.base + path)]


# curl 7.88 cannot use an HTTP/2 connection again that it made by prior knowledge, with any server.
@case("connection.is used again", versions=(1,))
def reuse(http):
    reply, seen = http.both("/echo", "-w", "%{num_connects}\n", *urls(http, 20), seen=20)
    return reply.status(), connections(reply), len(seen)


@case("connection.is used again after bodies", versions=(1,))
def reuse_bodies(http):
    reply, seen = http.both("/echo", "-w", "%{num_connects}\n", *data(100000), *urls(http, 5), seen=5)
    return reply.status(), connections(reply), [one["bytes"] for one in seen]


@case("connection.close is obeyed", versions=(1,))
def close(http):
    reply = http.run("/echo", "-H", "Connection: close", "-w", "%{num_connects}\n", *urls(http, 3))
    return reply.status(), connections(reply), len(http.origin.new(3))


@case("connection.HTTP/1.0 request", versions=(1,))
def http10(http):
    got = http.raw(b"GET /echo HTTP/1.0\r\nHost: shop.test\r\nX-A: 1\r\n\r\n")
    head, _, body = got.partition("\r\n\r\n")
    # The reply must end with the connection, and cannot be chunked.
    return head.split(" ")[1], body, "chunked" in head.lower(), len(http.origin.new(1))


@case("connection.HTTP/1.0 gets no chunks", versions=(1,))
def http10_chunked(http):
    got = http.raw(b"GET /chunked/3/4 HTTP/1.0\r\nHost: shop.test\r\n\r\n")
    head, _, body = got.partition("\r\n\r\n")
    return head.split(" ")[1], len(body), "chunked" in head.lower(), len(http.origin.new(1))


@case("connection.requests in one go", versions=(1,))
def pipeline(http):
    one = "GET /echo/{} HTTP/1.1\r\nHost: shop.test\r\n{}\r\n"
    got = http.raw("".join(one.format(n, "Connection: close\r\n" if n == 4 else "") for n in range(5)).encode())
    seen = http.origin.new(5)
    return got.count("HTTP/1.1 200 OK"), [request["target"] for request in seen], got.endswith("no end)")


@case("connection.HEAD, then GET", versions=(1,))
def head_then_get(http):
    got = http.raw(b"HEAD /bytes/50 HTTP/1.1\r\nHost: shop.test\r\n\r\n"
                   b"GET /bytes/3 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
    replies = got.split("HTTP/1.1 ")[1:]
    return [(reply.split("\r\n")[0], reply.partition("\r\n\r\n")[2].encode("latin-1").hex()) for reply in replies], \
        len(http.origin.new(2))


@case("connection.the origin closes is not used again", versions=(1,))
def slam(http):
    replies = [http.run("/slam", "-w", "%{http_code}\n", *urls(http, 15, "/slam")) for _ in range(3)]
    codes = "".join(reply.written for reply in replies).split()
    return sorted(set(codes)), len(codes), len(http.origin.new(45))


@case("connection.the origin closes, POST runs once", versions=(1,))
def slam_post(http):
    reply = http.run("/slam", "-w", "%{http_code}\n", *data(10), *urls(http, 15, "/slam"))
    codes = reply.written.split()
    # It can close just when the next request is on its way. That one is told so, is not run, and is an exception.
    told = codes.count("503")
    return sorted(set(codes) - {"503"}), len(codes), len(http.origin.new(15 - told)) == 15 - told, told < 3


# --- What breaks ------------------------------------------------------------------------------------------------

@case("broken.reply with a length")
def cut_length(http):
    return broken(http, "/cut/length")


@case("broken.reply in chunks")
def cut_chunked(http):
    return broken(http, "/cut/chunked")


def broken(http, path):
    """Half a reply must never look like a whole one."""
    reply, _ = http.both(path)
    return reply.code in (18, 56, 92, 16), len(reply.body) <= 500


@case("broken.no reply at all")
def no_reply(http):
    reply, seen = http.both("/reset", *data(5))
    return reply.status(), reply.header("x-raddle-reason"), reply.code, len(seen)


@case("broken.request whose sender is gone", versions=(1,))
def half_request(http):
    target = f"/half-{time.monotonic_ns()}"
    with socket.create_connection(("127.0.0.1", http.port), timeout=5) as wire:
        head = f"POST {target} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100\r\n\r\n"
        wire.sendall(head.encode() + b"x" * 50)
        wait_until(lambda: http.origin.received(target) == 50, 5, "half a request at the origin")
    seen = http.origin.new(1)
    return [(one["complete"], one["bytes"]) for one in seen]


@case("broken.caller leaves during the reply")
def gone(http):
    running = http.start("/slow/200")
    running.stdout.readline()
    running.kill()
    running.wait()
    # The origin must notice: it writes on into nothing.
    return [one["complete"] for one in http.origin.new(1)]


def outcomes(http):
    """{case: (text, loose text)} of all cases of the client's version."""
    results = {}
    for one in CASES.values():
        if http.version not in one.versions:
            continue
        try:
            result = one.run(http)
            results[one.name] = shown(result, False), shown(result, True)
        except Failure as error:
            results[one.name] = (f"failure: {error}",) * 2
            http.origin.new(0)
    return results
