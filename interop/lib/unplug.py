"""A cable pulled: endpoints in a network namespace whose link goes down while requests are in flight.

No reset and no end of stream comes then; only time tells. Needs root and iproute2.
"""

import json
import os
import subprocess
import time

import mesh
from harness import Failure, Skip, Workspace, accepts, free_ports, need, wait_until

NAMESPACE = "raddle-unplug"
OUTSIDE, INSIDE = "10.213.7.1", "10.213.7.2"
SERVICE = "bench.Echo:1.0"
PORT = 12300
# What the policy promises, and what scheduling on a busy machine may add.
DEAD_PEER_S, SLACK_S = 2, 2


def ip(*args):
    done = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"ip {' '.join(args)}: {done.stderr.strip()}")


class Cable:
    """A namespace at the other end of a virtual cable; gone again at the end."""

    def __enter__(self):
        self.clean()
        ip("netns", "add", NAMESPACE)
        ip("link", "add", "raddle0", "type", "veth", "peer", "name", "raddle1", "netns", NAMESPACE)
        ip("addr", "add", f"{OUTSIDE}/30", "dev", "raddle0")
        ip("link", "set", "raddle0", "up")
        for args in (("addr", "add", f"{INSIDE}/30", "dev", "raddle1"), ("link", "set", "raddle1", "up"),
                     ("link", "set", "lo", "up")):
            ip("-n", NAMESPACE, *args)
        return self

    def pull(self):
        # The far end drops what it gets; the near end keeps its address, so that nothing is told at once.
        ip("-n", NAMESPACE, "link", "set", "raddle1", "down")
        ip("-n", NAMESPACE, "addr", "flush", "dev", "raddle1")
        ip("neigh", "replace", INSIDE, "lladdr", "02:00:00:00:00:01", "dev", "raddle0", "nud", "permanent")

    @staticmethod
    def clean():
        subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", "raddle0"], capture_output=True, check=False)

    def __exit__(self, *_):
        self.clean()


def failures(admin):
    """Rejections by flag, of all outbound requests."""
    stats = json.loads(mesh.get(admin, "/stats"))
    return stats["totals"]["outbound"]["rejected"]


def unplug(report):
    """The requests on a pulled cable are answered in seconds, and all others are served elsewhere."""
    if os.geteuid() != 0:
        raise Skip("needs root, for a network namespace")
    need("ip")
    with Workspace("unplug") as work, Cable() as cable:
        raddle = str(mesh.binary())
        outbound, admin, local = free_ports(3)
        serve = [raddle, "bench", "serve", "--protocol", "bolt", "--delay", "5ms", "--listen"]
        work.start("far", ["ip", "netns", "exec", NAMESPACE, *serve, f"{INSIDE}:{PORT}"])
        work.start("near", [*serve, f"127.0.0.1:{local}"])
        wait_until(lambda: accepts(local), 10, "the near server")
        caller = work.folder / "caller.yaml"
        endpoints = "\n".join(f"  - {{address: {a}}}" for a in (f"127.0.0.1:{local}", f"{INSIDE}:{PORT}"))
        policy = f"""apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {{name: quick}}
spec:
  to: {{services: ["{SERVICE}"]}}
  balancer: roundRobin
  timeouts: {{deadPeer: {DEAD_PEER_S}s}}
"""
        service = f"""apiVersion: raddle.io/v1
kind: Service
metadata: {{name: "{SERVICE}"}}
spec:
  app: echo
  protocol: bolt
  endpoints:
{endpoints}
"""
        mesh.write(caller, mesh.document(mesh.sidecar("shop-1", "shop", admin, outbound=[(outbound, None)]),
                                         service, policy))
        mesh.start(work, "sidecar", caller, admin)
        load = work.start("load", [raddle, "bench", "load", "--protocol", "bolt", "--target",
                                   f"127.0.0.1:{outbound}", "--service", SERVICE, "--connections", "8",
                                   "--depth", "4", "--duration", "12s", "--size", "256", "-o", "json"])
        wait_until(lambda: mesh.share(admin, f"{INSIDE}:{PORT}") > 200, 10, "traffic to the far server")
        cable.pull()
        pulled = time.monotonic()
        wait_until(lambda: sum(failures(admin).values()) > 0, DEAD_PEER_S + SLACK_S, "the lost requests' answers")
        noticed = time.monotonic() - pulled
        text = load.finish(40)
        result = json.loads(text[text.index("{"):])
        flags = failures(admin)
        failed = sum(flags.values())
        if set(flags) != {"UC"}:
            raise Failure(f"only UC is right for what was on the cable: {flags}")
        if failed > 8 * 4:
            raise Failure(f"{failed} failed, more than the 32 that can have been in flight")
        report.ok("unplug", f"noticed after {noticed:.1f} s (deadPeer {DEAD_PEER_S} s); {failed} requests were on "
                            f"the cable and answered UC, {result['requests']} others served")
