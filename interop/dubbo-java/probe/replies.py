"""What Dubbo's clients make of replies a sidecar might send: one table each, printed.

python3 interop/dubbo-java/probe/replies.py java|node|python
"""

import json
import re
import socket
import struct
import sys
import threading
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
import dubbo_peers  # noqa: E402
from harness import Workspace  # noqa: E402

TEXT = "raddle UC: lost"
STATUSES = (30, 31, 40, 50, 60, 70, 80, 90, 100)
RPC_EXCEPTION = "org.apache.dubbo.rpc.RpcException"
SCENARIOS = (
    ["good"] + [f"status-{status}" for status in STATUSES] + ["status-80-empty", "status-80-null"]
    + ["exception", "exception-attachments", "exception-bare", "exception-null-stack", "exception-runtime",
       "exception-unknown-class", "exception-string", "silence", "close"]
)


def text(value):
    """A string of Hessian 2, of less than 1,024 characters."""
    raw, length = value.encode(), len(value)
    return (bytes([length]) if length < 32 else bytes([0x30 + (length >> 8), length & 0xFF])) + raw


def thrown(name, fields):
    """An exception object: fields are (name, bytes of the value)."""
    return (b"C" + text(name) + bytes([0x90 + len(fields)]) + b"".join(text(field) for field, _ in fields) + b"\x60"
            + b"".join(value for _, value in fields))


MESSAGE, CAUSE, CODE = ("detailMessage", text(TEXT)), ("cause", b"N"), ("code", b"\x91")
STACK = ("stackTrace", b"\x70" + text("[java.lang.StackTraceElement"))
SUPPRESSED = ("suppressedExceptions", b"N")
EXCEPTIONS = {
    "exception": b"\x90" + thrown(RPC_EXCEPTION, [MESSAGE, CODE, CAUSE, STACK, SUPPRESSED]),
    "exception-attachments": b"\x93" + thrown(RPC_EXCEPTION, [MESSAGE, CODE, CAUSE, STACK, SUPPRESSED]) + b"HZ",
    "exception-bare": b"\x90" + thrown(RPC_EXCEPTION, [MESSAGE]),
    "exception-null-stack": b"\x90" + thrown(RPC_EXCEPTION, [MESSAGE, CODE, CAUSE, ("stackTrace", b"N")]),
    "exception-runtime": b"\x90" + thrown("java.lang.RuntimeException", [MESSAGE, CAUSE, STACK, SUPPRESSED]),
    "exception-unknown-class": b"\x90" + thrown("io.raddle.NoSuchException", [MESSAGE, CAUSE, STACK, SUPPRESSED]),
    "exception-string": b"\x90" + text(TEXT),
}


def answer(scenario):
    """Status and body."""
    if scenario == "good":
        return 20, b"\x91" + text("fine")
    if scenario in EXCEPTIONS:
        return 20, EXCEPTIONS[scenario]
    _, status, *kind = scenario.split("-")
    return int(status), {"empty": b"", "null": b"N"}.get(kind[0]) if kind else text(TEXT)


def serve(connection, seen):
    stream = connection.makefile("rb")
    while len(head := stream.read(16)) == 16:
        flags, identity, length = head[2], head[4:12], struct.unpack(">I", head[12:])[0]
        body = stream.read(length)
        if flags & 0x20:
            if flags & 0x40:
                connection.sendall(b"\xda\xbb\x22\x14" + identity + struct.pack(">I", 1) + b"N")
            continue
        scenario = re.search(rb"\{([a-z0-9-]+)\}", body).group(1).decode()
        seen[scenario] += 1
        if scenario == "close":
            connection.close()
            return
        if scenario != "silence":
            status, reply = answer(scenario)
            connection.sendall(b"\xda\xbb\x02" + bytes([status]) + identity + struct.pack(">I", len(reply)) + reply)


def accept(listener, seen):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, seen), daemon=True).start()


def main():
    client = sys.argv[1] if len(sys.argv) > 1 else "java"
    listener, seen = socket.create_server(("127.0.0.1", 0)), Counter()
    port = listener.getsockname()[1]
    threading.Thread(target=accept, args=(listener, seen), daemon=True).start()
    texts = ["{%s}" % scenario for scenario in SCENARIOS]
    with Workspace("probe") as work:
        out, found = work.folder / "out.json", {}
        if client == "java":
            dubbo_peers.ready_java()
            dubbo_peers.run_java_client(work, "probe", out, "probe", port, *texts)
        elif client == "node":
            dubbo_peers.ready_node()
            work.start("probe", ["node", dubbo_peers.NODE / "src/client.js", out, "probe", port, *texts]).finish(120)
        else:
            dubbo_peers.ready_python()
            # One process each: some replies leave its connection useless.
            for number, one in enumerate(texts):
                path = work.folder / f"out-{number}.json"
                command = dubbo_peers.python("dubbo_client.py", path, "probe", port, one)
                work.start(f"probe-{number}", command).finish(60)
                found.update(json.loads(path.read_text()))
        if out.exists():
            found = json.loads(out.read_text())
        for case, outcome in found.items():
            print(f"{case}: {outcome}")
    print("asked:", dict(seen))


if __name__ == "__main__":
    main()
