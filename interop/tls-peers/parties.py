"""What the cases of this folder stand on: an app, sidecars with certificates from files, and what they say."""

import http.server
import json
import re
import struct
import threading

import mesh
from harness import free_ports, wait_until

RULE = "pay-strict"
HOST = "pay.test"
# The app speaks HTTP/1.1 only, whatever its callers speak.
HTTP1_APP = ", appProtocol: http"
SERVICE = "com.shop.PayService:1.0"


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers every request with the head it was sent."""

    protocol_version = "HTTP/1.1"
    # Head and body are two writes.
    disable_nagle_algorithm = True

    def do_GET(self):
        length = int(self.headers.get("content-length") or 0)
        got = self.rfile.read(length).decode("latin-1")
        body = json.dumps({"path": self.path, "body": got, "headers": {k.lower(): v for k, v in self.headers.items()}})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET

    def log_message(self, *_):
        pass


class App:
    """An app that knows nothing of TLS, in this process."""

    def __init__(self, port=0):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Quiet)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def sidecar(name, app, admin, leaf=None, inbound=(), outbound=(), log=None, more=()):
    """A Sidecar document, and its certificate's; listeners are flow mappings without braces."""
    lines = ["apiVersion: raddle.io/v1", "kind: Sidecar", f"metadata: {{name: {name}}}", "spec:", f"  app: {app}",
             "  unit: u1", f"  admin: 127.0.0.1:{admin}", "  replies: readable"]
    for kind, listeners in (("inbound", inbound), ("outbound", outbound)):
        lines += [f"  {kind}:"] * bool(listeners) + [f"  - {{{one}}}" for one in listeners]
    if log:
        lines.append(f"  accessLog: {{path: {log}, format: json}}")
    if leaf:
        lines.append(f"  identity: {{certificate: mesh, rootsFile: {leaf.roots}}}")
    lines += [f"  {line}" for line in more]
    text = "\n".join(lines) + "\n"
    if leaf:
        text += ("---\napiVersion: raddle.io/v1\nkind: Certificate\nmetadata: {name: mesh}\n"
                 f"spec: {{certificate: {leaf.certificate}, key: {leaf.key}}}\n")
    return text


def encryption(mode, *fields, name=RULE):
    return (f"apiVersion: raddle.io/v1\nkind: LinkEncryption\nmetadata: {{name: {name}}}\n"
            f"spec: {{{', '.join([f'mode: {mode}', *fields])}}}\n")


def service(port, tls="true", name=HOST, protocol="http", app="pay", address="127.0.0.1"):
    return (f'apiVersion: raddle.io/v1\nkind: Service\nmetadata: {{name: "{name}"}}\nspec:\n  app: {app}\n'
            f"  protocol: {protocol}\n  endpoints:\n  - {{address: {address}:{port}, unit: u1, tls: {tls}}}\n")


class Sidecar:
    """A running sidecar, and what it says."""

    def __init__(self, work, name, admin, *documents):
        self.admin, self.name = admin, name
        self.log = work.folder / f"{name}-access.json"
        path = work.folder / f"{name}.yaml"
        mesh.write(path, mesh.document(*documents))
        self.process = mesh.start(work, name, path, admin)

    def page(self, path):
        return mesh.get(self.admin, path)

    def lines(self):
        """Its access log."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def counted(self, metric, **labels):
        """The sum of a metric over all its series with these labels."""
        total = 0.0
        for line in self.page("/metrics").splitlines():
            if re.match(rf"{metric}[ {{]", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def events(self):
        return json.loads(self.page("/events"))


def callee(work, leaf, app_port, *documents, name="pay-1", fields="", more=()):
    """A callee's sidecar; its inbound port is `.port`. `fields`: further ones of its listener."""
    port, admin = free_ports(2)
    log = work.folder / f"{name}-access.json"
    listener = f"listen: 127.0.0.1:{port}, forward: 127.0.0.1:{app_port}{fields}"
    text = sidecar(name, "pay", admin, leaf, inbound=[listener], log=log, more=more)
    one = Sidecar(work, name, admin, text, *documents)
    one.port = port
    return one


def caller(work, leaf, *services, name="shop-1", app="shop", more=()):
    """A caller's sidecar; its outbound port is `.port`."""
    port, admin = free_ports(2)
    log = work.folder / f"{name}-access.json"
    one = Sidecar(work, name, admin, sidecar(name, app, admin, leaf, outbound=[f"listen: 127.0.0.1:{port}"], log=log,
                                             more=more), *services)
    one.port = port
    return one


def bolt_request(number, service=SERVICE, method="pay", content=b"x", timeout_ms=5000):
    """A request of Bolt 1, with the headers a sidecar routes by."""
    cls = b"com.alipay.sofa.rpc.core.request.SofaRequest"
    pairs = [b"service", service.encode(), b"sofa_head_target_service", service.encode(),
             b"sofa_head_method_name", method.encode()]
    headers = b"".join(struct.pack(">I", len(one)) + one for one in pairs)
    head = struct.pack(">BBHBIBIHHI", 1, 1, 1, 1, number, 11, timeout_ms, len(cls), len(headers), len(content))
    return head + cls + headers + content


def bolt_reply(one):
    """Status and headers of the next reply on a socket."""
    head = exactly(one, 20)
    _, _, _, _, number, _, status, cls, headers, content = struct.unpack(">BBHBIBHHHI", head)
    exactly(one, cls)
    said, fields = exactly(one, headers), []
    while said:
        length, = struct.unpack(">I", said[:4])
        fields.append(said[4:4 + length].decode())
        said = said[4 + length:]
    return number, status, dict(zip(fields[::2], fields[1::2])), exactly(one, content)


def exactly(one, count):
    data = b""
    while len(data) < count:
        piece = one.recv(count - len(data))
        if not piece:
            raise ConnectionError("the connection ended")
        data += piece
    return data


def appears(condition, what, seconds=10):
    """Waits for something to be said; what it was."""
    found = []

    def seen():
        found[:] = [condition()]
        return bool(found[0])

    wait_until(seen, seconds, what)
    return found[0]
