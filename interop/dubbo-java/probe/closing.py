"""What a Java caller makes of a connection that ends under it, and how long until it calls again.

python3 interop/dubbo-java/probe/closing.py dubbo|tri
"""

import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
import dubbo_peers  # noqa: E402
import dubbo_suites  # noqa: E402
from harness import Workspace, free_ports  # noqa: E402

ENDS_AFTER_S = 3


class Relay:
    """Bytes between callers and a server, until it is told to end all connections."""

    def __init__(self, server):
        self.server, self.open, self.accepted = server, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            caller, _ = self.listener.accept()
            self.accepted.append(time.time())
            callee = socket.create_connection(("127.0.0.1", self.server))
            self.open += [caller, callee]
            for source, sink in ((caller, callee), (callee, caller)):
                threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def end(self):
        ended, self.open = self.open, []
        for one in ended:
            one.shutdown(socket.SHUT_RDWR)


def pump(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # Ended on purpose.


def main():
    scheme = sys.argv[1] if len(sys.argv) > 1 else "dubbo"
    dubbo_peers.ready_java()
    with Workspace("closing") as work:
        port = free_ports(1)[0]
        dubbo_peers.start_java_server(work, "server", *((port, 0) if scheme == "dubbo" else (0, port)))
        relay = Relay(port)
        load = dubbo_peers.start_load(work, scheme, relay.port, 2, 15)
        time.sleep(ENDS_AFTER_S)
        ended = time.time()
        relay.end()
        result = dubbo_suites.summary(load)
    print(dubbo_suites.shown(result))
    told = sorted(at / 1000 - ended for one in result.values() for at in one["failed_at_ms"])
    if told:
        print(f"{len(told)} calls failed, from {told[0] * 1000:.0f} ms to {told[-1] * 1000:.0f} ms after the end")
    print("dialled again after", [f"{(at - ended) * 1000:.0f} ms" for at in relay.accepted if at > ended])


if __name__ == "__main__":
    main()
