"""Apps that join the mesh by themselves: SOFARPC by its `mesh` registry, Node by the sidecar's file. No consumer is
told any address but its own sidecar's."""

import json

import control
import disturbance
import mesh
import pairings
import peers
from harness import Failure, Workspace, accepts, free_ports, wait_until

SHOP = mesh.SERVICES[0]
# SOFARPC's mesh client calls port 12220 of the mesh's host, and cannot be told otherwise: hosts of their own.
PROVIDERS = ("127.0.0.41", "127.0.0.42")
CONSUMER = "127.0.0.43"
MESH_PORT = 12220


def java(report):
    """Providers come and go by the mesh registry under load: not one failed call."""
    peers.ready_java()
    with Workspace("mesh-java") as work:
        plane = control.Control(work)
        ports = free_ports(7)
        providers = [Provider(work, plane, index, *ports[index * 3:index * 3 + 3]) for index in range(2)]
        control.start_sidecar(work, "consumer-sidecar", ports[6], control.sidecar(
            "shop-1", "shop", ports[6], plane, outbound=[f"{CONSUMER}:{MESH_PORT}"],
            more=[f"localMesh: {CONSUMER}:13330", "replies: readable"]))
        providers[0].start()
        load = work.start("load", peers.java("client.Load", f"http://{CONSUMER}:13330", 8, 20))
        load.await_output("STARTED", 60)
        providers[1].start()
        wait_until(lambda: len(plane.endpoints(SHOP)) == 2, 20, "both providers to be known")
        wait_until(lambda: mesh.share(ports[6], providers[1].address) > 100, 10, "the second provider to be called")
        providers[0].process.stop(20)
        wait_until(lambda: len(plane.endpoints(SHOP)) == 1, 20, "the first provider to be gone")
        result = disturbance.summary(load, 60)
        if result["failed"] or result["wrong"] or result["hung"] or result["ok"] < 1000:
            raise Failure(f"providers came and went: {disturbance.shown(result)}")
        report.ok("mesh-java", f"a provider joins, another unpublishes and ends; {disturbance.shown(result)}")


class Provider:
    """A SOFARPC provider and the sidecar beside it."""

    def __init__(self, work, plane, index, app, inbound, admin):
        self.work, self.app, self.host, self.name = work, app, PROVIDERS[index], f"order-{index + 1}"
        self.address, self.process = f"{self.host}:{inbound}", None
        control.start_sidecar(work, f"{self.name}-sidecar", admin, control.sidecar(
            self.name, "order", admin, plane, inbound=[(inbound, app)], address=self.host,
            more=[f"localMesh: {self.host}:13330"]))

    def start(self):
        self.process = self.work.start(self.name, peers.java(
            "server.MeshProvider", self.app, f"http://{self.host}:13330", self.name))
        self.process.await_output(f"READY {self.name}", peers.START_SECONDS)



def node(report):
    """A Node pair joined by the sidecars' files: every case as directly."""
    peers.ready_node()
    with Workspace("mesh-node") as work:
        app, inbound, outbound, callee_admin, caller_admin = free_ports(5)
        plane = control.Control(work)
        control.start_sidecar(work, "callee-sidecar", callee_admin, control.sidecar(
            "order-1", "order", callee_admin, plane, inbound=[(inbound, app)],
            publish=[(name, "bolt", inbound) for name in mesh.SERVICES], more=[]).replace(
                "  publish:\n", f"  publish:\n    watchPort: {app}\n"))
        control.start_sidecar(work, "caller-sidecar", caller_admin, control.sidecar(
            "shop-1", "shop", caller_admin, plane, outbound=[outbound], more=["replies: readable"]))
        if known(plane):
            raise Failure("services are published though the app does not run yet")
        server = peers.start_node_server(work, "server", app)
        wait_until(lambda: known(plane), 20, "the app's services to be published once it accepts")
        out = work.folder / "meshed.json"
        peers.run_node_client(work, "client", out, "node", outbound)
        expected = json.loads((peers.ROOT / "expected" / "node-node.json").read_text())
        meshed = json.loads(out.read_text())
        expected = {case: value for case, value in expected.items() if case in meshed}
        pairings.compare(report, "mesh-node", expected, meshed, pairings.as_direct)
        server.kill()
        wait_until(lambda: not accepts(app), 5, "the killed server's port to close")
        wait_until(lambda: not known(plane), 20, "the killed app's services to be withdrawn")
        report.ok("mesh-node watch", "published when the app accepts, withdrawn when it is killed")


def known(plane):
    return any(one["name"] == SHOP and one["endpoints"] for one in plane.get("/v1/services?limit=100")["items"])


SUITES = {"mesh-java": java, "mesh-node": node}
