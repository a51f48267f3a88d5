"""Sidecars between HTTP or gRPC peers: their configuration files, and starting them."""

import mesh
from harness import free_ports


def listeners(kind, items):
    """The `inbound` or `outbound` part: each item is the fields of one listener."""
    lines = [f"  {kind}:"]
    for item in items:
        lines.append("  - {" + ", ".join(f"{name}: {value}" for name, value in item.items()) + "}")
    return lines if items else []


def sidecar(name, app, admin, inbound=(), outbound=(), limits="", log=None):
    """A Sidecar document; listeners are mappings of field to value."""
    lines = ["apiVersion: raddle.io/v1", "kind: Sidecar", f"metadata: {{name: {name}}}", "spec:",
             f"  app: {app}", f"  admin: 127.0.0.1:{admin}"]
    lines += listeners("inbound", inbound) + listeners("outbound", outbound)
    if limits:
        lines.append(f"  limits: {{{limits}}}")
    if log:
        lines.append(f"  accessLog: {{path: {log}, format: json}}")
    return "\n".join(lines) + "\n"


def service(name, ports, protocol=None, hosts=(), weights=None):
    """A Service document with an endpoint a port."""
    lines = ["apiVersion: raddle.io/v1", "kind: Service", f'metadata: {{name: "{name}"}}', "spec:", "  app: callee"]
    if protocol:
        lines.append(f"  protocol: {protocol}")
    if hosts:
        lines.append(f"  hosts: [{', '.join(hosts)}]")
    lines.append("  endpoints:")
    for index, port in enumerate(ports):
        weight = weights[index] if weights else 100
        lines.append(f"  - {{address: 127.0.0.1:{port}, weight: {weight}, labels: {{version: v{index + 1}}}}}")
    return "\n".join(lines) + "\n"


def policy(name, services, spec):
    """A TrafficPolicy for services; `spec` is its other lines."""
    named = ", ".join(f'"{one}"' for one in services)
    body = "\n".join(f"  {line}" for line in spec)
    return (f"apiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {{name: {name}}}\n"
            f"spec:\n  to: {{services: [{named}]}}\n{body}\n")


def listen(port, **fields):
    return {"listen": f"127.0.0.1:{port}", **fields}


def forward(port, app, **fields):
    return listen(port, forward=f"127.0.0.1:{app}", **fields)


def start(work, name, admin, *documents):
    """Writes a sidecar's configuration and starts it; the configuration's path."""
    path = work.folder / f"{name}.yaml"
    mesh.write(path, mesh.document(*documents))
    mesh.start(work, name, path, admin)
    return path


class Fleet:
    """Servers, one sidecar beside all of them, and a caller's sidecar with one listener for everything."""

    def __init__(self, work, apps, name, protocol=None, extra=(), **fields):
        """`apps`: ports of the servers, all of the service `name`; `extra`: further documents of the caller."""
        mesh.binary()
        self.work, self.apps, self.name, self.protocol, self.extra = work, apps, name, protocol, extra
        self.fields = fields
        self.outbound, self.caller_admin, self.callee_admin, *self.inbound = free_ports(3 + len(apps))
        self.log = work.folder / "caller-access.json"
        pairs = [forward(at, app) for at, app in zip(self.inbound, apps)]
        start(work, "callee-sidecar", self.callee_admin, sidecar("callee-1", "callee", self.callee_admin, pairs,
              log=work.folder / "callee-access.json"))
        self.config = start(work, "caller-sidecar", self.caller_admin, *self.documents())

    def documents(self, weights=None, more=()):
        head = sidecar("caller-1", "caller", self.caller_admin, outbound=[listen(self.outbound)], log=self.log)
        return (head, service(self.name, self.inbound, self.protocol, weights=weights, **self.fields),
                *self.extra, *more)

    def rewrite(self, number):
        """One of many changes: other weights, a rule or a service that comes and goes."""
        weights = [(number * 37 + index * 53) % 100 + 1 for index in range(len(self.apps))]
        more = [shift(self.name, number, len(self.apps))] if number % 2 else []
        if number % 3:
            more.append(service(f"extra-{number}.test", [self.inbound[number % len(self.apps)]]))
        mesh.write(self.config, mesh.document(*self.documents(weights, more)))


def shift(name, number, servers):
    """A rule that moves a share of the load to one server."""
    return (f'apiVersion: raddle.io/v1\nkind: Route\nmetadata: {{name: shift-{number}}}\nspec:\n'
            f'  to: {{services: ["{name}"]}}\n  rules:\n  - name: shift\n    percent: {number % 90 + 10}\n'
            f'    send: {{labels: {{version: v{number % servers + 1}}}}}\n')
