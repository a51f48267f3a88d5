"""What real servers (Java, Node) do with unusual frames: mixed versions, heartbeats with headers, commands.

python3 interop/sofa-java/probe/servers.py
"""

import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
import bolt  # noqa: E402
import peers  # noqa: E402
from harness import Workspace, free_ports  # noqa: E402


def capture():
    """The frame of a real request for echo, as the Java client makes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    caught = []

    def take():
        connection, _ = listener.accept()
        stream = connection.makefile("rb")
        frame = bolt.read(stream)
        while frame.command != 1:  # An idle client's heartbeat came first.
            frame = bolt.read(stream)
        caught.append(frame)
        connection.close()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    with Workspace("capture") as work:
        work.start("probe", peers.java("client.Probe", f"127.0.0.1:{listener.getsockname()[1]}", "sync:{good}"))
        thread.join(30)
    return caught[0]


def as_version(frame, id, proto, ver1, switch):
    return bolt.Frame(proto, ver1, frame.kind, frame.command, id, frame.codec, switch, 3000,
                      frame.name, frame.headers, frame.content)


def show_headers(frame):
    data, at, pairs = frame.headers, 0, []
    texts = []
    while at < len(data):
        length = int.from_bytes(data[at:at + 4], "big")
        texts.append(data[at + 4:at + 4 + length].decode())
        at += 4 + length
    for key, value in zip(texts[::2], texts[1::2]):
        pairs.append(f"{key}={value}")
    return pairs


def exchange(port, title, frames, answers, seconds=1.5):
    """Sends frames on one connection and prints what comes back."""
    print(f"  {title}")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        stream = connection.makefile("rb")
        for frame in frames:
            connection.sendall(frame.encode())
        connection.settimeout(seconds)
        try:
            for _ in range(answers):
                frame = bolt.read(stream)
                if frame is None:
                    print("    -> the server closed the connection")
                    return
                print(f"    -> {frame}")
            if answers == 0 and not connection.recv(1):
                print("    -> the server closed the connection")
        except TimeoutError:
            print(f"    -> (nothing more for {seconds} s)")
        except ConnectionResetError:
            print("    -> reset")


def questions(port, request):
    v1, v2, crc, off = (1, 1, 0), (2, 1, 0), (2, 2, 1), (2, 2, 0)
    exchange(port, "requests v1, v2, v2+crc, v2 ver1=2 without crc, v1 on one connection",
             [as_version(request, id, *version) for id, version in enumerate((v1, v2, crc, off, v1), 1)], 5)
    exchange(port, "requests v2+crc, v1, v2 on one connection",
             [as_version(request, id, *version) for id, version in enumerate((crc, v1, v2), 1)], 3)
    exchange(port, "heartbeats v1, v2, v2+crc on one connection",
             [bolt.heartbeat(1, *v1), bolt.heartbeat(2, *v2), bolt.heartbeat(3, *crc)], 3)
    exchange(port, "heartbeat v2+crc first",
             [bolt.heartbeat(1, *crc), as_version(request, 2, *crc), bolt.heartbeat(3, *crc)], 3)
    exchange(port, "heartbeat v1 with a header map, then a request",
             [bolt.heartbeat(1, headers={"raddle": "1"}), as_version(request, 2, *v1)], 2)
    exchange(port, "heartbeat v1 with class name, header map and content, then a request",
             [bolt.heartbeat(1, headers={"raddle": "1"}, name="x", content=b"yz"), as_version(request, 2, *v1)], 2)
    exchange(port, "heartbeat v2+crc with a header map",
             [bolt.heartbeat(1, *crc, headers={"raddle": "1"}), as_version(request, 2, *crc)], 2)
    exchange(port, "one-way heartbeat, then a request",
             [bolt.command(0, 1, 2), as_version(request, 2, *v1)], 2)
    for kind, name in ((1, "request"), (2, "one-way"), (0, "response")):
        exchange(port, f"command 100 as {name}, then a request",
                 [bolt.command(100, 1, kind), as_version(request, 2, *v1)], 2)
    big = as_version(request, 1, *v1)
    big.headers += bolt.header_map({"big": "x" * 40_000})
    exchange(port, "header map of 40 KB (over 32767)", [big, as_version(request, 2, *v1)], 2)


def main():
    peers.ready_java()
    peers.ready_node()
    request = capture()
    print("The Java client's request:", request)
    print("  class", request.name.decode())
    for pair in show_headers(request):
        print("  header", pair)
    rpc, node = free_ports(2)
    with Workspace("servers") as work:
        peers.start_java_server(work, "java", rpc)
        peers.start_node_server(work, "node", node)
        for name, port in (("Java server", rpc), ("Node server", node)):
            print(name)
            questions(port, request)


if __name__ == "__main__":
    main()
