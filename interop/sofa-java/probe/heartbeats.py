"""When Java clients heartbeat an idle connection, and what they do when nobody answers. Takes 80 s.

python3 interop/sofa-java/probe/heartbeats.py
"""

import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
import bolt  # noqa: E402
import peers  # noqa: E402
from harness import Workspace  # noqa: E402
from replies import answer  # noqa: E402

WATCH_MS = 75_000


def serve(connection, name, answers):
    start = time.monotonic()
    stream = connection.makefile("rb")
    while request := bolt.read(stream):
        at = time.monotonic() - start
        if request.command != 0:
            start = time.monotonic()
            connection.sendall(answer(request, "good")[0].encode())
            continue
        print(f"{name}: {at:5.1f} s: {request}", flush=True)
        if answers:
            connection.sendall(bolt.response(request, 0).encode())
    print(f"{name}: {time.monotonic() - start:5.1f} s: the client closed", flush=True)


def accept(listener, name, answers):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, name, answers), daemon=True).start()


def main():
    peers.ready_java()
    options = [option for option in peers.JAVA_OPTIONS if "heartbeat" not in option]
    peers.JAVA_OPTIONS[:] = options
    with Workspace("heartbeats") as work:
        probes = []
        for kind in ("sync", "raw", "rawv2"):
            for answers in (True, False):
                name = f"{kind}, {'answered' if answers else 'unanswered'}"
                listener = socket.create_server(("127.0.0.1", 0))
                threading.Thread(target=accept, args=(listener, name, answers), daemon=True).start()
                probes.append(work.start(name.replace(", ", "-"), peers.java(
                    "client.Probe", f"127.0.0.1:{listener.getsockname()[1]}",
                    f"{kind}:{{good}}", f"wait:{WATCH_MS}", f"{kind}:{{good}}")))
        for probe in probes:
            print("\n".join(f"{probe.name}: {line}" for line in probe.finish(120).splitlines() if " ms | " in line))


if __name__ == "__main__":
    main()
