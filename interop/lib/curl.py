"""curl as a client, and what it and the origin saw, as text that can be compared."""

import hashlib
import json
import re
import socket
import subprocess
import urllib.request

from harness import Failure, wait_until

# Said of a connection, not of a message.
OF_THE_CONNECTION = ("connection", "keep-alive", "proxy-connection")
# What a sidecar writes itself, in its own place and case.
ITS_OWN = ("transfer-encoding", "expect")
EXITS = {0: "", 7: "could not connect", 18: "cut short", 28: "timed out", 52: "no reply", 56: "connection broken",
         92: "stream error", 16: "HTTP/2 error"}
HOST = "shop.test"
PATIENCE_S = 20


def brief(value):
    """A value as it is, or what tells long ones apart."""
    return value if len(value) <= 120 else f"<{len(value)} chars {sha1(value.encode('latin-1'))}>"


def sha1(data):
    return hashlib.sha1(data).hexdigest()[:12]


class Reply:
    """What curl got: interim and final heads, trailers, body, and how it ended."""

    def __init__(self, code, heads, body):
        self.code, self.body = code, body
        blocks = [block.split("\r\n") for block in re.split(r"\r\n\r\n", heads) if block.strip()]
        self.heads = [block for block in blocks if block[0].startswith("HTTP/")]
        self.trailers = [line for block in blocks if block not in self.heads for line in block if line]

    def header(self, name):
        """The first value of a header of the final head."""
        for line in self.heads[-1][1:] if self.heads else ():
            one, _, value = line.partition(":")
            if one.lower() == name:
                return value.strip()
        return None

    def status(self):
        return int(self.heads[-1][0].split(" ")[1]) if self.heads else 0

    def text(self, loose):
        parts = []
        for head in self.heads:
            first = head[0].rstrip()
            parts.append(" ".join(first.split(" ")[1:2]) if loose else first)
            parts += header_lines([line.split(":", 1) for line in head[1:] if line], loose)
        parts.append(f"body {len(self.body)} bytes {sha1(self.body)}" if self.body else "no body")
        parts += [f"trailer {line}" for line in header_lines([t.split(":", 1) for t in self.trailers], True)]
        if self.code:
            parts.append(f"curl: {EXITS.get(self.code, self.code)}")
        return " | ".join(parts)


def header_lines(pairs, loose):
    """Headers in their order; loosely, without what a change of the HTTP version changes."""
    lines, own, grouped = [], [], {}
    for name, value in pairs:
        lower, text = name.lower(), brief(value.strip())
        if lower in OF_THE_CONNECTION or (loose and lower in ("transfer-encoding", "te", "trailer")):
            continue
        if lower in ITS_OWN:
            own.append(f"{lower}: {text}")
        elif loose:
            # Among different names the order says nothing, and HTTP/2 stacks do not keep it.
            grouped.setdefault(lower, []).append(f"{lower}: {text}")
        else:
            lines.append(f"{name}: {text}")
    return lines + [line for group in grouped.values() for line in group] + own


def seen_text(seen, loose):
    """A request as the origin saw it."""
    first = f"{seen['method']} {brief(seen['target'])}" + ("" if loose else f" HTTP/{seen['version']}")
    parts = [first, *header_lines(seen["headers"], loose)]
    if seen["bytes"]:
        parts.append(f"body {seen['bytes']} bytes {seen['sha1'][:12]}")
    parts += [f"trailer {name.lower()}: {value}" for name, value in seen["trailers"]]
    if not seen["complete"]:
        parts.append("INCOMPLETE")
    return " | ".join(parts)


class Origin:
    """The origin's log and its control pages."""

    def __init__(self, port, log):
        self.port, self.log = port, log
        self.read = 0

    def new(self, count):
        """Requests since the last look, at least so many if they come."""
        def lines():
            return self.log.read_text().splitlines()[self.read:] if self.log.exists() else []
        try:
            wait_until(lambda: len(lines()) >= count, 5, "the origin to see the request")
        except Failure:
            pass  # That it did not see it is what is then compared.
        fresh = lines()
        self.read += len(fresh)
        return [json.loads(line) for line in fresh]

    def control(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/control/{path}", timeout=5) as answer:
            return answer.read().decode()

    def release(self, event):
        self.control(f"release/{event}")

    def received(self, target):
        """Bytes of the body that came so far."""
        return int(self.control(f"progress{target}"))


class Curl:
    """curl against one port, in one version of HTTP."""

    def __init__(self, work, origin, port, version, *options, scheme="http"):
        self.folder, self.origin, self.port, self.version = work.folder, origin, port, version
        default = {"http": 80, "https": 443}[scheme]
        self.base = f"{scheme}://{HOST}"
        self.options = ["-sS", "-q", "--globoff", "--path-as-is", "-m", str(PATIENCE_S), "-A", "curl",
                        "--connect-to", f"{HOST}:{default}:127.0.0.1:{port}", "--noproxy", "",
                        "--http1.1" if version == 1 else "--http2" if scheme == "https" else "--http2-prior-knowledge",
                        *options]

    def command(self, path, *args):
        return ["curl", *self.options, *args, path if path.startswith("http") else self.base + path]

    def run(self, path, *args, stdin=None):
        """One request: the reply."""
        heads, body = self.folder / "heads", self.folder / "body"
        for file in (heads, body):
            file.write_bytes(b"")
        done = subprocess.run(self.command(path, "-D", heads, "-o", body, *args), input=stdin, capture_output=True,
                              check=False, timeout=PATIENCE_S + 5)
        reply = Reply(done.returncode, heads.read_bytes().decode("latin-1"),
                      # For -I, curl writes the head where the body belongs.
                      b"" if "-I" in args else body.read_bytes())
        reply.written = done.stdout.decode()
        return reply

    def start(self, path, *args):
        """One request whose body and reply flow piece by piece."""
        return subprocess.Popen(self.command(path, "-N", *args), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, bufsize=0)

    def both(self, path, *args, seen=1, stdin=None):
        """The reply, and what the origin saw of it."""
        reply = self.run(path, *args, stdin=stdin)
        return reply, self.origin.new(seen)

    def raw(self, *pieces):
        """Bytes sent as they are; all that comes back until the other side ends or 5 s pass."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as wire:
            for piece in pieces:
                wire.sendall(piece)
            got = b""
            try:
                while data := wire.recv(65536):
                    got += data
            except (TimeoutError, ConnectionError):
                got += b" (and no end)"
        return got.decode("latin-1")
