"""One control plane, every kind of xDS client at once: sidecars, Envoy by both variants, grpcio and grpc-js by
`xds:///`. What changes must reach them all; a dead control plane must not be noticed by any."""

import json
import time
import urllib.request

import control
import grpc_peers
from harness import Failure, Workspace, accepts, free_ports, need, wait_until
from steady import Watcher

ECHO = "raddle.interop.Echo"
PER_SECOND = 40
AWAY_S = 6


class Instance:
    """A gRPC server and the sidecar that publishes it."""

    def __init__(self, work, plane, name):
        self.work, self.name = work, name
        self.app, self.inbound, self.admin = free_ports(3)
        self.server = grpc_peers.start_server(work, "py", name, self.app)
        self.sidecar = control.start_sidecar(work, f"{name}-sidecar", self.admin, control.sidecar(
            name, "echo", self.admin, plane, inbound=[(self.inbound, self.app)],
            publish=[(ECHO, "grpc", self.inbound)]))

    def leave(self):
        """As deployments end an instance: the sidecar withdraws and drains, then the server ends."""
        self.sidecar.popen.terminate()
        self.sidecar.popen.wait(20)
        self.server.stop(10)

    def kill(self):
        self.sidecar.kill()
        self.server.kill()


def envoy(work, name, variant, plane, listen, admin, extra=None):
    """An Envoy that has everything from the control plane."""
    need("envoy")
    metadata = {"raddle.listen": f"127.0.0.1:{listen}", **(extra or {})}
    config = {
        "node": {"id": name, "cluster": "shop", "metadata": metadata},
        "admin": {"address": address(admin)},
        "dynamic_resources": {
            "ads_config": {"api_type": variant, "transport_api_version": "V3",
                           "grpc_services": [{"envoy_grpc": {"cluster_name": "control"}}]},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"}},
        "static_resources": {"clusters": [{
            "name": "control", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}}},
            "load_assignment": {"cluster_name": "control", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(plane.grpc)}}]}]}}]}}
    path = work.folder / f"{name}.json"
    path.write_text(json.dumps(config))
    process = work.start(name, ["envoy", "-c", path, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"])

    def live():
        if not process.alive():
            process.finish(1)
        try:
            return "LIVE" in page(admin, "/ready")
        except OSError:
            return False

    wait_until(live, 30, f"{name} to be live")
    return process


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def page(admin, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=5) as answer:
        return answer.read().decode()


class Clients:
    """All of them, calling the same service."""

    def __init__(self, work, plane):
        grpc_peers.ready_python()
        grpc_peers.ready_node()
        self.sotw, self.delta, self.sotw_admin, self.delta_admin, sidecar, sidecar_admin = free_ports(6)
        envoy(work, "envoy-sotw", "GRPC", plane, self.sotw, self.sotw_admin)
        envoy(work, "envoy-delta", "DELTA_GRPC", plane, self.delta, self.delta_admin)
        control.start_sidecar(work, "caller-sidecar", sidecar_admin,
                              control.sidecar("shop-1", "shop", sidecar_admin, plane, outbound=[sidecar]))
        python = [grpc_peers.PYTHON / ".venv/bin/python", grpc_peers.PYTHON / "steady.py"]
        path = work.folder / "bootstrap.json"
        path.write_text(json.dumps({
            "xds_servers": [{"server_uri": f"127.0.0.1:{plane.grpc}", "channel_creds": [{"type": "insecure"}],
                             "server_features": ["xds_v3"]}],
            # grpc-js wants a locality, be it empty.
            "node": {"id": "grpc-client", "cluster": "shop", "locality": {}}}))
        bootstrap = {"GRPC_XDS_BOOTSTRAP": str(path)}
        self.all = [
            Watcher(work, "grpcio", [*python, f"xds:///{ECHO}", PER_SECOND], bootstrap),
            Watcher(work, "grpc-js", ["node", grpc_peers.NODE / "src/steady.js", f"xds:///{ECHO}", PER_SECOND],
                    bootstrap),
            Watcher(work, "through-envoy-sotw", [*python, f"127.0.0.1:{self.sotw}", PER_SECOND, ECHO]),
            Watcher(work, "through-envoy-delta", [*python, f"127.0.0.1:{self.delta}", PER_SECOND, ECHO]),
            Watcher(work, "through-sidecar", [*python, f"127.0.0.1:{sidecar}", PER_SECOND, ECHO]),
        ]

    def see(self, *names):
        for client in self.all:
            client.sees([one.name for one in names])

    def faultless(self, since, what):
        return sum(client.faultless(since, what) for client in self.all)


def live(report):
    """Endpoints come, go and come back; the control plane dies and returns: no client fails a call for it."""
    with Workspace("xds-live") as work:
        plane = control.Control(work, extra=["--grace", "4s"])
        grpc_peers.ready_python()
        one, two = Instance(work, plane, "echo-1"), Instance(work, plane, "echo-2")
        clients = Clients(work, plane)
        clients.see(one, two)
        began = time.time()
        three = Instance(work, plane, "echo-3")
        clients.see(one, two, three)
        report.ok("xds-live update", f"{clients.faultless(began, 'an instance joins')} calls, 0 failed")

        began = time.time()
        two.leave()
        clients.see(one, three)
        report.ok("xds-live removal", f"{clients.faultless(began, 'an instance leaves')} calls, 0 failed")

        began = time.time()
        plane.process.kill()
        time.sleep(AWAY_S)  # How long it is away, not a wait for something.
        calls = clients.faultless(began, "the control plane is dead")
        report.ok("xds-live death", f"control plane killed for {AWAY_S} s: {calls} calls, 0 failed")

        # It goes while nobody is there to be told: clients must hear of it when the control plane is back.
        three.kill()
        plane.start()
        wait_until(lambda: [e["instance"] for e in plane.endpoints(ECHO)] == ["echo-1"], 30,
                   "the instance that died meanwhile to be given up")
        clients.see(one)
        gone = f"127.0.0.1:{three.inbound}"
        for name, admin in (("envoy-sotw", clients.sotw_admin), ("envoy-delta", clients.delta_admin)):
            wait_until(lambda admin=admin: gone not in page(admin, "/clusters"), 10, f"{name} to drop {gone}")
        began = time.time()
        four = Instance(work, plane, "echo-4")
        clients.see(one, four)
        calls = clients.faultless(began, "an instance joins after the restart")
        report.ok("xds-live return", f"removals of the meantime reached all; then {calls} calls, 0 failed")


def nack(report):
    """A resource that a client refuses is shown by name; what is right beside it is in force."""
    with Workspace("xds-nack") as work:
        plane = control.Control(work)
        grpc_peers.ready_python()
        one = Instance(work, plane, "echo-1")
        listen, admin, taken = free_ports(3)
        # Envoy refuses a listener on a port that is taken.
        holder = work.start("holder", ["python3", "-m", "http.server", str(taken), "--bind", "127.0.0.1"])
        wait_until(lambda: accepts(taken) or not holder.alive(), 10, "the port to be taken")
        envoy(work, "envoy-1", "DELTA_GRPC", plane, listen, admin,
              {f"raddle.tcp.{ECHO}": f"127.0.0.1:{taken}"})
        python = [grpc_peers.PYTHON / ".venv/bin/python", grpc_peers.PYTHON / "steady.py"]
        client = Watcher(work, "through-envoy", [*python, f"127.0.0.1:{listen}", PER_SECOND, ECHO])
        client.sees([one.name])

        def shown():
            said = plane.cli("status", code=None)
            return "envoy-1" in said and "refused" in said.lower() and str(taken) in said

        wait_until(shown, 15, "the refused listener in `raddle status`")
        line = next(line for line in plane.cli("status", code=None).splitlines() if str(taken) in line)
        report.ok("xds-nack", f"in force: the rest; shown: {line.strip()[:160]}")


def rollout(report):
    """A harmful rule, staged: its guard catches it and rolls it back unattended; the rest never has it."""
    with Workspace("rollout") as work:
        plane = control.Control(work)
        grpc_peers.ready_python()
        one = Instance(work, plane, "echo-1")
        count = 10
        ports = free_ports(2 * count)
        python = [grpc_peers.PYTHON / ".venv/bin/python", grpc_peers.PYTHON / "steady.py"]
        clients = []
        # By the hash of these names exactly one of ten is in the first tenth.
        for index in range(count):
            listen, admin = ports[2 * index:2 * index + 2]
            control.start_sidecar(work, f"basket-{index}", admin, control.sidecar(
                f"basket-{index}", "shop", admin, plane, outbound=[listen]))
            clients.append(Watcher(work, f"client-{index}", [*python, f"127.0.0.1:{listen}", 30, ECHO]))
        for client in clients:
            client.sees([one.name])
        refused = plane.apply(policy("0s", "no"), 3)
        if "timeout" not in refused:
            raise Failure(f"a bad rule was not refused with its reasons: {refused}")
        report.ok("rollout refusal", " ".join(refused.split())[:200])
        began = time.time()
        plane.apply(policy("1ms", "too short"))
        wait_until(lambda: "rolled" in plane.cli("rollout", "status", "TrafficPolicy/short", code=None).lower(), 30,
                   "the rule to be rolled back")
        took = time.time() - began
        time.sleep(1)  # Whatever still failed has then been said.
        hit = [client.name for client in clients if client.failures(began)]
        for client in clients:
            client.sees([one.name])
        if not hit or len(hit) > count * 0.4:
            raise Failure(f"the stage of 10 % reached {hit} of {count}")
        if took > 10:
            raise Failure(f"rolled back after {took:.1f} s, not 10")
        report.ok("rollout guard", f"rolled back after {took:.1f} s; {hit} of {count} sidecars had it")


def policy(timeout, comment):
    """A policy that answers nearly nothing, in stages."""
    return f"""apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {{name: short, labels: {{why: "{comment}"}}}}
spec:
  to: {{services: ["{ECHO}"]}}
  timeouts: {{request: {timeout}}}
  rollout:
    stages: [{{percent: 10, hold: 30s}}, {{percent: 50, hold: 30s}}, {{percent: 100}}]
    guard: {{errorRate: 0.05, minRequests: 20}}
"""


SUITES = {"xds-live": live, "xds-nack": nack, "rollout": rollout}
