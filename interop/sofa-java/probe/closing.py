"""What Java clients do when the server ends an idle connection, and how soon they call again.

python3 interop/sofa-java/probe/closing.py
"""

import re
import socket
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
import bolt  # noqa: E402
import peers  # noqa: E402
from harness import Workspace  # noqa: E402
from replies import answer  # noqa: E402

START = time.monotonic()


def say(text):
    print(f"    {(time.monotonic() - START) * 1000:7.0f} ms server: {text}", flush=True)


def serve(connection, number):
    stream = connection.makefile("rb")
    ended = None
    try:
        while request := bolt.read(stream):
            if request.command == 0:
                connection.sendall(bolt.response(request, 0).encode())
                continue
            scenario = re.search(rb"\{([a-z0-9,]+)\}", request.content).group(1).decode()
            if scenario == "finfirst":
                connection.shutdown(socket.SHUT_WR)
                ended = time.monotonic()
                say(f"connection {number}: sent FIN instead of a reply, still reading")
                continue
            for frame in answer(request, "good"):
                connection.sendall(frame.encode())
            if scenario == "fin":
                connection.shutdown(socket.SHUT_WR)
                ended = time.monotonic()
                say(f"connection {number}: sent FIN, still reading")
            elif scenario == "rst":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.close()
                connection.close()
                say(f"connection {number}: sent RST")
                return
        after = f"{(time.monotonic() - ended) * 1000:.1f} ms after our FIN" if ended else "by itself"
        say(f"connection {number}: client closed, {after}")
    except OSError as error:
        say(f"connection {number}: {error}")


def accept(listener):
    number = 0
    while True:
        connection, _ = listener.accept()
        number += 1
        say(f"connection {number} accepted")
        threading.Thread(target=serve, args=(connection, number), daemon=True).start()


def run(title, calls):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    print(title, flush=True)
    with Workspace("closing") as work:
        probe = work.start("probe", peers.java("client.Probe", f"127.0.0.1:{listener.getsockname()[1]}", *calls))
        lines = [line for line in probe.finish(60).splitlines() if " ms | " in line]
    print("\n".join("  " + line for line in lines), flush=True)
    listener.close()


def main():
    peers.ready_java()
    for kind in ("sync", "raw"):
        good = f"{kind}:{{good}}"
        run(f"{kind}: FIN with a call in flight", [good, f"{kind}:{{finfirst}}", "wait:50", good])
        run(f"{kind}: calls at once after FIN, then each second",
            [good, f"{kind}:{{fin}}", "wait:2", good] + ["wait:1000", good] * 12)
    for kind in ("sync", "raw"):
        for how in ("fin", "rst"):
            for pause in (0, 2, 50, 1000, 12000):
                good = f"{kind}:{{good}}"
                run(f"{kind} {how}, next call after {pause} ms",
                    [good, f"{kind}:{{{how}}}", f"wait:{pause}", good, good, "wait:100", good])


if __name__ == "__main__":
    main()
