"""Three replicas of the control plane on three real etcd members: any of the six may die."""

import json
import re
import time
import urllib.request

import control
import grpc_peers
import xds_suites
from harness import Failure, Workspace, free_ports, need, wait_until
from steady import Watcher

WRITES_WITHIN_S = 5


class Etcd:
    """A cluster of three."""

    def __init__(self, work):
        need("etcd")
        self.work = work
        ports = free_ports(6)
        self.clients, self.peers = ports[:3], ports[3:]
        self.members = [self.start(index, "new") for index in range(3)]
        wait_until(lambda: all(self.healthy(port) for port in self.clients), 30, "etcd to be healthy")

    def start(self, index, life):
        cluster = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(self.peers))
        client, peer = (f"http://127.0.0.1:{ports[index]}" for ports in (self.clients, self.peers))
        return self.work.start(f"etcd-{index}-{life}", [
            "etcd", "--name", f"m{index}", "--data-dir", self.work.folder / f"etcd-{index}",
            "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, "--initial-cluster-state", "new",
            "--heartbeat-interval", "100", "--election-timeout", "1000"])

    def urls(self):
        return ",".join(f"http://127.0.0.1:{port}" for port in self.clients)

    @staticmethod
    def healthy(port):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                return json.loads(answer.read()).get("health") == "true"
        except OSError:
            return False


def rule(number):
    return f"""apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {{name: steady, labels: {{number: "{number}"}}}}
spec:
  to: {{services: ["{xds_suites.ECHO}"]}}
  timeouts: {{request: {number + 5}s}}
"""


def write(planes, number, seconds):
    """Applies a revision at whichever replica takes it; how long that took."""
    began = time.monotonic()
    while True:
        for plane in planes:
            if plane.process.alive():
                try:
                    plane.apply(rule(number))
                    return time.monotonic() - began
                except Failure as error:
                    last = error
        if time.monotonic() - began > seconds:
            raise Failure(f"no replica took revision {number} within {seconds} s: {last}")
        time.sleep(0.05)  # The pace of the tries.


def number_of(plane):
    text = plane.cli("get", "TrafficPolicy/steady", "-o", "json", code=None)
    found = re.search(r'"number":\s*"(\d+)"', text)
    return found and found.group(1)


def acknowledged(planes, number):
    """Every replica that lives has the revision that was acknowledged."""
    for plane in planes:
        if plane.process.alive():
            wait_until(lambda plane=plane: number_of(plane) == str(number), 10, f"{plane.name} to have revision {number}")


def ha(report):
    """Each replica and each etcd member killed in turn: calls go on, writes go on, nothing acknowledged is lost."""
    with Workspace("ha") as work:
        etcd = Etcd(work)
        planes = [control.Control(work, f"control-{n}", etcd=etcd.urls()) for n in range(3)]
        grpc_peers.ready_python()
        one = xds_suites.Instance(work, planes, "echo-1")
        two = xds_suites.Instance(work, planes, "echo-2")
        listen, admin = free_ports(2)
        control.start_sidecar(work, "caller-sidecar", admin,
                              control.sidecar("shop-1", "shop", admin, planes, outbound=[listen]))
        python = [grpc_peers.PYTHON / ".venv/bin/python", grpc_peers.PYTHON / "steady.py"]
        client = Watcher(work, "client", [*python, f"127.0.0.1:{listen}", xds_suites.PER_SECOND, xds_suites.ECHO])
        client.sees([one.name, two.name])
        began, number = time.time(), 0
        write(planes, number, 10)
        acknowledged(planes, number)
        slowest = 0.0
        for plane in planes:
            plane.process.kill()
            number += 1
            slowest = max(slowest, write(planes, number, 30))
            acknowledged(planes, number)
            plane.start()
        if slowest > WRITES_WITHIN_S:
            raise Failure(f"a replica killed: the next write took {slowest:.1f} s")
        report.ok("ha replicas", f"3 replicas killed in turn; the slowest write after that took {slowest:.2f} s")
        slowest = 0.0
        for index, member in enumerate(etcd.members):
            member.kill()
            number += 1
            slowest = max(slowest, write(planes, number, 30))
            etcd.members[index] = etcd.start(index, f"again-{index}")
            wait_until(lambda index=index: etcd.healthy(etcd.clients[index]), 30, "the member to be healthy again")
            acknowledged(planes, number)
        if slowest > WRITES_WITHIN_S:
            raise Failure(f"an etcd member killed: the next write took {slowest:.1f} s")
        client.sees([one.name, two.name])
        calls = client.faultless(began, "replicas and members were killed")
        report.ok("ha members", f"3 etcd members killed in turn; the slowest write took {slowest:.2f} s; "
                                f"{calls} calls meanwhile, 0 failed")


SUITES = {"ha": ha}
