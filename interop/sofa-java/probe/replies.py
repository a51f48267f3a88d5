"""What Java and Node clients make of replies a sidecar might send: one table each, printed.

python3 interop/sofa-java/probe/replies.py java|node
"""

import re
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
import bolt  # noqa: E402
import peers  # noqa: E402
from harness import Workspace  # noqa: E402

STATUSES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0x10, 0x11, 0x12)
TEXT = "raddle UC: lost"
GOAWAY = 100


def answer(request, scenario):
    """The frames that answer a request whose text names the scenario."""
    what, _, rest = scenario.partition(",")
    status = int(rest or "0", 16)
    good = bolt.response(request, 0, bolt.SOFA_RESPONSE if b"SofaRequest" in request.name else "java.lang.String",
                         good_content(request))
    if what == "good":
        return [good]
    if what == "empty":
        return [bolt.response(request, status)]
    if what == "exception":
        return [bolt.response(request, status, bolt.SERVER_EXCEPTION, bolt.server_exception(TEXT), codec=1)]
    if what == "exceptionhdr":
        return [bolt.response(request, status, bolt.SERVER_EXCEPTION, bolt.server_exception(TEXT),
                              {"raddle-reason": "UC"}, codec=1)]
    if what == "withstack":
        return [bolt.response(request, status, bolt.SERVER_EXCEPTION, bolt.server_exception_with_stack(TEXT), codec=1)]
    if what == "sofawithstack":
        return [bolt.response(request, 0, bolt.SOFA_RESPONSE, bolt.sofa_response_with_stack(TEXT), codec=1)]
    if what == "sofaerrorstatus":
        return [bolt.response(request, status, bolt.SOFA_RESPONSE, bolt.sofa_error(TEXT), codec=1)]
    if what == "wrongclass":
        return [bolt.response(request, status, bolt.SOFA_RESPONSE, bolt.server_exception(TEXT), codec=1)]
    if what == "sofaexception":
        return [bolt.response(request, status, bolt.SOFA_RESPONSE, bolt.sofa_response(TEXT), codec=1)]
    if what == "sofaerror":
        return [bolt.response(request, status, bolt.SOFA_RESPONSE, bolt.sofa_error(TEXT), codec=1)]
    if what.startswith("goaway"):
        return [bolt.command(GOAWAY, 7777, int(what[6:]), request.proto), good]
    if what.startswith("twice"):
        return [good, good]
    raise ValueError(scenario)


def good_content(request):
    if b"SofaRequest" not in request.name:
        return bolt.hessian_string("fine")
    if request.codec == 11:
        return b"\x0a\x04fine"
    fields = ["isError", "errorMsg", "appResponse", "responseProps"]
    return bolt.hessian_class(bolt.SOFA_RESPONSE, fields) + b"o\x90FN" + bolt.hessian_string("fine") + b"N"


def serve(connection, number):
    stream = connection.makefile("rb")
    while request := bolt.read(stream):
        if request.command == 0:
            connection.sendall(bolt.response(request, 0).encode())
            continue
        scenario = re.search(rb"\{([a-z0-9,]+)\}", request.content).group(1).decode()
        for frame in answer(request, scenario):
            connection.sendall(frame.encode())
    print(f"    (the client closed connection {number})")


def accept(listener):
    number = 0
    while True:
        connection, _ = listener.accept()
        number += 1
        print(f"    (connection {number})")
        threading.Thread(target=serve, args=(connection, number), daemon=True).start()


def scenarios():
    return ([f"{{empty,{status:x}}}" for status in STATUSES]
            + [f"{{exception,{status:x}}}" for status in (2, 4, 5, 6, 7, 0x10, 0x11)]
            + ["{exceptionhdr,2}", "{exceptionhdr,10}", "{wrongclass,2}", "{sofaexception,0}", "{sofaexception,10}",
               "{withstack,2}", "{withstack,4}", "{withstack,10}", "{sofawithstack}", "{sofaerrorstatus,10}",
               "{sofaerror,0}", "{twice}", "{goaway1}", "{good}", "{goaway2}", "{good}", "{goaway0}", "{good}"])


def main():
    java = sys.argv[1] == "java"
    (peers.ready_java if java else peers.ready_node)()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    port = listener.getsockname()[1]
    kinds = ("sync", "callback", "protobuf", "raw", "rawcallback") if java else ("hessian", "protobuf")
    calls = [f"{kind}:{scenario}" for kind in kinds for scenario in scenarios()]
    with Workspace("replies") as work:
        command = (peers.java("client.Probe", f"127.0.0.1:{port}", *calls) if java
                   else ["node", peers.NODE / "src/probe.js", port, *calls])
        probe = work.start("probe", command)
        print("\n".join(line for line in probe.finish(400).splitlines() if " ms | " in line))


if __name__ == "__main__":
    main()
