"""A cluster of 200 endpoints switched to TLS and back under load: complete within five seconds of the push.

The endpoints are addresses of loopback that one sidecar serves; the push is a new file for the caller's.
"""

import json
import os
import time

import judge
import links
import loads
import mesh
import pki
from harness import Failure, Workspace, accepts, free_ports, need, wait_until

ENDPOINTS = 200
WITHIN_S = 5
QUIET_S = 1
BASELINE_S = 5
RPS = float(os.environ.get("ENCRYPTION_RPS", "2000"))
PROTOCOLS = ("bolt", "http2", "dubbo")


def service(protocol, port, tls):
    """The service with all its endpoints, as the caller's sidecar knows it."""
    how = ", tls: {required: true}" if tls else ""
    endpoints = "\n".join(f"  - {{address: 127.0.1.{n + 1}:{port}{how}}}" for n in range(ENDPOINTS))
    return f"""apiVersion: raddle.io/v1
kind: Service
metadata: {{name: "{loads.service(protocol)}"}}
spec:
  app: pay
  protocol: {protocol}
  endpoints:
{endpoints}
---
apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {{name: {protocol}}}
spec:
  to: {{services: ["{loads.service(protocol)}"]}}
  balancer: roundRobin
"""


class Cluster:
    """The two sidecars, an echo server for each protocol, and loads over all endpoints."""

    def __init__(self, work):
        self.work = work
        authority = pki.Authority(work.folder)
        self.certificates = {app: authority.app(app) for app in ("pay", "shop")}
        apps, listens = free_ports(len(PROTOCOLS)), free_ports(len(PROTOCOLS))
        self.callee_admin, self.caller_admin, self.enter = free_ports(3)
        self.ports = dict(zip(PROTOCOLS, listens))
        for protocol, port in zip(PROTOCOLS, apps):
            work.start(f"echo-{protocol}", [mesh.binary(), "bench", "serve", "--protocol", protocol, "--listen",
                                            f"127.0.0.1:{port}"])
            wait_until(lambda port=port: accepts(port), 20, f"the echo server of {protocol}")
        self.logs = [work.folder / "callee.access", work.folder / "caller.access"]
        inbound = ", ".join(f"{{listen: 0.0.0.0:{listen}, forward: 127.0.0.1:{app}}}"
                            for listen, app in zip(listens, apps))
        callee, self.caller = work.folder / "callee.yaml", work.folder / "caller.yaml"
        mesh.write(callee, self.sidecar("pay", self.callee_admin, self.logs[0], f"inbound: [{inbound}]")
                   + "---\napiVersion: raddle.io/v1\nkind: LinkEncryption\nmetadata: {name: pay}\n"
                     "spec: {mode: permissive}\n")
        mesh.start(work, "callee-sidecar", callee, self.callee_admin)
        self.push(tls=False)
        mesh.start(work, "caller-sidecar", self.caller, self.caller_admin)

    def sidecar(self, app, admin, log, listeners):
        files = self.certificates[app]
        return f"""apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: {app}-1}}
spec:
  app: {app}
  unit: u1
  admin: 127.0.0.1:{admin}
  {listeners}
  accessLog: {{path: {log}, format: json, sample: 0}}
  identity: {{certificate: own, rootsFile: {files.roots}}}
---
apiVersion: raddle.io/v1
kind: Certificate
metadata: {{name: own}}
spec: {{certificate: {files.certificate}, key: {files.key}}}
"""

    def push(self, tls):
        own = self.sidecar("shop", self.caller_admin, self.logs[1], f"outbound: [{{listen: 127.0.0.1:{self.enter}}}]")
        mesh.write(self.caller, mesh.document(own, *(service(p, port, tls) for p, port in self.ports.items())))


def cluster(report):
    """On and off again, every protocol at once."""
    need("ss", "openssl")
    with Workspace("encryption-cluster") as work:
        made = Cluster(work)
        lanes = {port: protocol for protocol, port in made.ports.items()}
        phases = judge.Phases()
        with links.Sampler(lanes) as sampler:
            phases.begin("before")
            started = [loads.Generator(work, protocol, made.enter, RPS / len(PROTOCOLS)) for protocol in PROTOCOLS]
            loads.all_started(started, 30)
            time.sleep(BASELINE_S)
            switches, error = [], None
            try:
                for name, tls in (("on", True), ("off", False)):
                    phases.begin(name)
                    switch = links.Switch(sampler, name)
                    switches.append(switch)
                    made.push(tls)
                    wait_until(lambda switch=switch: switch.left(QUIET_S), 30, f"{name}: all endpoints to be switched")
            except Failure as stopped:
                error = f"{stopped}; still on old ones: {switch.busy()}"
            phases.begin("after")
            time.sleep(BASELINE_S)
            phases.end()
        rows = judge.summed(started, phases, "before", "after")
        failures = [failure for load in started for failure in load.failures()]
        print(judge.table(rows, judge.LOADS))
        tables = [switch.table() for switch in switches]
        for table in tables:
            print(judge.switch_table(table))
        if failures:
            print(judge.told(failures, phases, made.logs), flush=True)
        out = os.environ.get("ENCRYPTION_OUT")
        if out:
            with open(f"{out}.cluster", "w", encoding="utf-8") as file:
                json.dump({"rps": RPS, "endpoints": ENDPOINTS, "loads": rows, "switches": tables,
                           "failures": failures[:200]}, file, indent=2)
        judged(report, rows, tables, error)


def judged(report, rows, tables, error):
    if error:
        report.fail("encryption-cluster", error)
        return
    slowest = {table["name"]: max(lane["lastRequestS"] for lane in table["lanes"].values()) for table in tables}
    said = ", ".join(f"{name}: last request on an old connection {took:.1f} s after the push"
                     for name, took in slowest.items())
    late = any(took > WITHIN_S for took in slowest.values())
    (report.fail if late else report.ok)("encryption-cluster switch", f"{ENDPOINTS} endpoints; {said}")
    sent, failed = sum(row["sent"] for row in rows), sum(row["failed"] for row in rows)
    (report.fail if failed else report.ok)("encryption-cluster no loss", f"{sent} requests sent, {failed} failed")


SUITES = {"encryption-cluster": cluster}
