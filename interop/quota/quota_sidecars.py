"""Cluster quota with fifty real sidecars: a limit that is leased, and a small one that is given by tokens.

Through all of it requests go to every sidecar. The demand moves; the control plane is killed and comes back; two fifths
of the sidecars lose it, while it seems to be there, and find it again.
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import control
import mesh
import sidecar_load
from harness import Failure, Workspace, accepts, free_ports, wait_until

SIDECARS = 50
CUT = 20
# Requests a second, path and name of each rule.
RULES = (("much", 1200), ("few", 100))
ASKED = 1.25
# What is certain is the same everywhere. How much is used on a machine that does other things too is not.
BUSY = bool(os.environ.get("CI"))
USED = {"steady": (0.9, 0.85) if BUSY else (0.97, 0.97), "killed": (0.5, 0.2), "restarted": (0.8, 0.6),
        "cut": (0.8, 0.7), "together": (0.8, 0.6) if BUSY else (0.97, 0.97)}
# Of the limit, in ten seconds. One per cent is the goal, and kept at rest; where fifty processes share two cores with
# others, up to 1.6 % were seen after a restart, and 2.8 % of the small limit when sidecars are cut off.
OVER = 1.03 if BUSY else 1.01
SHIFT = 3.0 if BUSY else 2.0
# What passes at once after a pause, of the smallest limits: requests.
FEW = 8


def sidecars(report):
    """Fifty sidecars share two limits: overshoot, use, and how fast demand that moves is served."""
    mesh.binary()
    with Workspace("quota-sidecars") as work:
        plane = control.Control(work)
        for name, limit in RULES:
            plane.apply(f"apiVersion: raddle.io/v1\nkind: RateLimit\nmetadata: {{name: {name}}}\n"
                        f"spec: {{when: {{path: {{prefix: /{name}}}}}, rate: {limit}, reach: cluster}}\n")
        relay, ports = start(work, plane)
        loads = [sidecar_load.Load(f"/{name}/1", ports) for name, _ in RULES]
        evenly(loads)
        generator = sidecar_load.Generator(loads)
        generator.thread.start()
        try:
            world = SimpleNamespace(report=report, plane=plane, relay=relay, loads=loads, generator=generator)
            phases(world)
        finally:
            os.killpg(relay.popen.pid, signal.SIGCONT)
            generator.over = True
            generator.thread.join(5)
        if any(load.other for load in loads):
            raise Failure(f"answered neither 200 nor 429: {[load.other for load in loads]}")


def start(work, plane):
    """An app, a relay to the control plane, and the sidecars; the relay and the ports to call."""
    echo, between, *ports = free_ports(2 + 2 * SIDECARS)
    work.start("echo", [mesh.binary(), "bench", "serve", "--protocol", "http", "--listen", f"127.0.0.1:{echo}",
                        "--size", "16"])
    relay = work.start("relay", [sys.executable, Path(__file__).parent / "relay.py", between, plane.grpc])
    wait_until(lambda: accepts(echo) and accepts(between), 20, "the app and the relay")
    admins, listens = ports[:SIDECARS], ports[SIDECARS:]
    for i, (admin, listen) in enumerate(zip(admins, listens)):
        joins = SimpleNamespace(grpc=between) if i < CUT else plane
        text = control.sidecar(f"shop-{i}", "shop", admin, joins, inbound=[(listen, echo)], more=["workers: 1"])
        config = work.folder / f"shop-{i}.yaml"
        mesh.write(config, text)
        work.start(f"shop-{i}", [mesh.binary(), "proxy", "--config", config])
    wait_until(lambda: all(mesh.ready(admin) for admin in admins), 60, "fifty sidecars")
    return relay, listens


def evenly(loads):
    for load, (_, limit) in zip(loads, RULES):
        load.demand = [ASKED * limit / SIDECARS] * SIDECARS


def known(plane):
    """Whether both rules are counted, of all sidecars."""
    rules = plane.get("/v1/quota")["rules"]
    return len(rules) == len(RULES) and all(
        one["mode"] != "learning" and one["sidecars"] >= SIDECARS for one in rules)


def phases(world):
    generator, plane = world.generator, world.plane
    wait_until(lambda: known(plane), 30, "fifty sidecars at the quota server")
    generator.watch(5)
    check(world, "steady", generator.watch(12))
    shift(world)
    evenly(world.loads)
    generator.watch(3)

    before = generator.watch(1)
    plane.process.kill()
    killed = generator.watch(12)
    check(world, "killed", before + killed[1:])
    plane.start()
    back = generator.watch(12)
    check(world, "restarted", back, killed[-30:] + back[1:])

    os.killpg(world.relay.popen.pid, signal.SIGSTOP)
    cut = generator.watch(13)
    check(world, "cut", cut, back[-30:] + cut[1:])
    os.killpg(world.relay.popen.pid, signal.SIGCONT)
    joined = generator.watch(5)
    check(world, "together", generator.watch(6), cut[-30:] + joined[1:])


def check(world, phase, marks, window=None):
    """What was used in a phase, and the most of ten seconds up to its end."""
    for load, (name, limit) in enumerate(RULES):
        used = sidecar_load.used(marks, load, limit)
        most, still = sidecar_load.most(window or marks, load, limit)
        # Who counts stood still for a moment: so much more time's requests are in the ten seconds.
        allowed = OVER + max(still - 0.05, 0) / 10 + FEW / (10 * limit)
        least = USED[phase][load]
        text = f"of {limit}/s: {used:.3f} used, most in 10 s {most:.4f}"
        if used < least and overloaded():
            text += ", on a machine that has too much to do to say how much could be"
            least = 0
        if most > allowed or used < least:
            raise Failure(f"{phase}, {name}: {text} (asked: ≥ {least} and ≤ {allowed:.3f})")
        world.report.ok(f"quota of fifty sidecars, {phase}, {name}", text)


def overloaded():
    """Whether others use the machine so much that its control plane stands still for seconds, and learns anew."""
    return os.getloadavg()[0] > 3 * os.cpu_count()


def shift(world):
    """Half of the sidecars get it all: how long until it is served."""
    for load, (_, limit) in zip(world.loads, RULES):
        half = SIDECARS // 2
        load.demand = [2 * ASKED * limit / SIDECARS * 2 if i < half else 0.0 for i in range(SIDECARS)]
    marks = world.generator.watch(5)
    for load, (name, limit) in enumerate(RULES):
        took = sidecar_load.since(marks, load, limit, 0.9)
        if (took is None or took > SHIFT) and not overloaded():
            raise Failure(f"shift, {name}: demand that moved is served after {took} s")
        took = took or float("inf")
        world.report.ok(f"quota of fifty sidecars, shift, {name}", f"served after {took:.2f} s")


SUITES = {"quota-sidecars": sidecars}
