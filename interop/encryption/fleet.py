"""The mesh the runs are made on: a control plane with an authority, the app `pay`, and three apps that call it."""

import control
import grpc_peers
import joined
import loads
import mesh
import peers
from harness import Skip, accepts, free_ports, wait_until

INSTANCES = 3
UNIT = "u1"
GRPC_ECHO = "raddle.interop.Echo"
# Callers, and what of the load goes through the sidecar of each.
CALLERS = {"shop": ("bolt", "dubbo"), "web": ("http", "http2", "grpc"), "desk": ("sofa", "real-grpc")}


class Fleet:
    """Everything that serves, and the callers' sidecars; `ports` is where each load enters."""

    def __init__(self, work, long_s, cert_life):
        self.work, self.long_s = work, long_s
        self.left_out = missing_toolchains()
        self.plane = joined.Plane(work, extra=["--cert-lifetime", cert_life, "--grace", "15s"])
        # Inbound port -> lane, for the sampler; and the admin ports of all sidecars.
        self.lanes, self.admins, self.logs = {}, {}, []
        for index in range(INSTANCES):
            self.start_instance(index)
        self.plane.apply(patience(long_s))
        self.ports = {"longS": long_s}
        for app, enters in CALLERS.items():
            listen, admin = free_ports(2)
            self.start_sidecar(f"{app}-1", app, admin, outbound=[listen], workers=2)
            self.ports.update(dict.fromkeys(enters, listen))
        # Both the generator's and grpcio's calls are gRPC, through different sidecars.
        self.real = {"sofa": self.ports["sofa"], "grpc": self.ports["real-grpc"], "longS": long_s}
        names = {service for service, _, _ in self.publications()}
        wait_until(lambda: self.known() >= names, 30, f"all services to be known: {sorted(names - self.known())}")

    def publications(self):
        """What an instance serves: (service, protocol, seconds a reply takes)."""
        echoes = [(loads.service(protocol, long), protocol, self.long_s * long)
                  for protocol in loads.LONG for long in (False, True)]
        real = [(GRPC_ECHO, "grpc", 0)] if "grpcio" not in self.left_out else []
        return echoes + real + ([(mesh.SERVICES[0], "bolt", 0)] if not {"java", "node"} <= self.left_out.keys() else [])

    def start_instance(self, index):
        served = self.publications()
        ports = free_ports(2 * len(served) + 2)
        admin, spare = ports[-2:]
        name, inbound, publish = f"pay-{index + 1}", [], []
        for number, (service, protocol, delay) in enumerate(served):
            app, listen = ports[2 * number:2 * number + 2]
            self.start_app(f"{name}-{service.replace('.', '-').replace(':', '-')}", service, protocol, delay, app, spare)
            inbound.append((listen, app))
            publish.append((service, protocol, listen))
            kind = f" {delay} s" if delay else ""
            real = " (real)" if service in (GRPC_ECHO, mesh.SERVICES[0]) else ""
            self.lanes[listen] = f"{protocol}{kind}{real}"
        self.start_sidecar(name, "pay", admin, inbound=inbound, publish=publish, workers=1)

    def start_app(self, name, service, protocol, delay, port, spare):
        if service == GRPC_ECHO:
            grpc_peers.start_server(self.work, "py", name, port, spare)
        elif service == mesh.SERVICES[0]:
            # Node's server mixes up the calls of Java's and Node's clients on one connection; Java's does not.
            java = "java" not in self.left_out
            (peers.start_java_server if java else peers.start_node_server)(self.work, name, port)
        else:
            self.work.start(name, [mesh.binary(), "bench", "serve", "--protocol", protocol, "--listen",
                                   f"127.0.0.1:{port}", "--delay", f"{delay}s"])
            wait_until(lambda: accepts(port), 20, f"{name} to listen")

    def start_sidecar(self, name, app, admin, workers, **ports):
        log = self.work.folder / f"{name}.access"
        self.logs.append(log)
        self.admins[name] = admin
        control.start_sidecar(self.work, name, admin, control.sidecar(
            name, app, admin, self.plane, unit=UNIT, **ports, more=[
                f"workers: {workers}", f"accessLog: {{path: {log}, format: json, sample: 0}}", "replies: readable"]))

    def known(self):
        items = self.plane.get("/v1/services?limit=100")["items"]
        return {one["name"] for one in items if one["endpoints"] == INSTANCES}


def missing_toolchains():
    """Real clients that cannot run here, with the reason."""
    missing = {}
    for name, ready in (("java", peers.ready_java), ("node", peers.ready_node), ("grpcio", grpc_peers.ready_python)):
        try:
            ready()
        except Skip as reason:
            missing[name] = str(reason)
    return missing


def patience(long_s):
    """Long requests may take as long as they do."""
    names = ", ".join(f'"{loads.service(protocol, True)}"' for protocol in loads.LONG)
    return f"""apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {{name: patience}}
spec:
  to: {{services: [{names}]}}
  timeouts: {{request: {long_s + 60}s}}
"""


def encryption(mode, stages=(), hold="2s", quiet="3s", deadline="90s"):
    """The rule that asks for encryption of `pay`."""
    rollout = ", ".join(f"{{percent: {percent}, hold: {hold}}}" for percent in stages)
    rollout = f"  rollout: {{stages: [{rollout}]}}\n" if stages else ""
    return f"""apiVersion: raddle.io/v1
kind: LinkEncryption
metadata: {{name: pay}}
spec:
  scope: {{apps: [pay]}}
  mode: {mode}
  quiet: {quiet}
  deadline: {deadline}
{rollout}"""
