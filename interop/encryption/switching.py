"""Encryption switched on, made strict and switched off again under load, twice: no request may be lost.

$ENCRYPTION_RPS requests a second (default 2,000), long requests of $ENCRYPTION_LONG_S seconds (default 10), results to
$ENCRYPTION_OUT (default: none).
"""

import json
import os
import time
from pathlib import Path

import fleet
import judge
import links
import loads
import mesh
from harness import Failure, Workspace, need, wait_until

RPS = float(os.environ.get("ENCRYPTION_RPS", "2000"))
LONG_S = int(os.environ.get("ENCRYPTION_LONG_S", "10"))
STAGES = (1, 50, 100)
# Renewed at half of it: every sidecar gets several certificates during a run.
CERT_LIFE = "40s"
BASELINE_S, AFTER_S = 8, 8
# Nothing for this long over the old connections: they are left.
QUIET_S = 1.5
SWITCH_WITHIN_S = 60
AWAY_S = 4
ADMITTED_WITHIN_S = 120


class Run:
    """One run, as far as it got."""

    def __init__(self, work):
        self.work, self.phases, self.switches, self.not_run = work, judge.Phases(), [], []
        self.fleet = fleet.Fleet(work, LONG_S, CERT_LIFE)
        self.plane = self.fleet.plane
        self.loads, self.sampler = [], None

    def start_loads(self):
        self.loads = loads.generators(self.work, self.fleet.ports, RPS, LONG_S)
        self.loads += loads.real(self.work, self.fleet.real, self.fleet.left_out)
        self.not_run += [f"real client {name}: {why}" for name, why in self.fleet.left_out.items()]
        loads.all_started(self.loads, 60 + LONG_S)

    def push(self, name, text):
        """Applies a rule that turns connections over, and waits until requests go over new ones only."""
        self.phases.begin(name)
        switch = links.Switch(self.sampler, name)
        self.plane.apply(text)
        return switch

    def left(self, switch):
        try:
            wait_until(lambda: switch.left(QUIET_S), SWITCH_WITHIN_S, f"{switch.name}: every lane to be on new connections")
        except Failure as error:
            raise Failure(f"{error}; still on old ones: {switch.busy()}") from None
        finally:
            self.switches.append(switch)

    def cycle(self, number, kill):
        name = f"{number}: permissive in stages"
        switch = self.push(name, fleet.encryption("permissive", STAGES))
        if kill:
            time.sleep(1)  # In the middle of the stages, not before.
            self.phases.begin(f"{number}: control plane killed")
            self.plane.process.kill()
            time.sleep(AWAY_S)  # How long it is away, not a wait for something.
            self.plane.start()
            self.phases.begin(f"{number}: control plane back")
        self.left(switch)
        self.everyone_has("permissive")
        self.certificates(number)
        self.phases.begin(f"{number}: strict in stages")
        self.ask_for_strict()
        self.everyone_has("strict")
        # Quiet time of the rule, and then some under strict.
        time.sleep(6)
        self.phases.begin(f"{number}: strict in force")
        time.sleep(4)
        switch = self.push(f"{number}: off", fleet.encryption("disable"))
        self.left(switch)

    def ask_for_strict(self):
        """As an operator does: the control plane refuses while it knows of plaintext callers, and says which."""
        last = []

        def taken():
            try:
                last.append(self.plane.apply(fleet.encryption("strict", STAGES)))
                return True
            except Failure as refused:
                if "would shut out" not in str(refused):
                    raise
                last.append(str(refused))
                time.sleep(1)  # The pace of the tries.
                return False

        try:
            wait_until(taken, ADMITTED_WITHIN_S, "strict to be admitted")
        except Failure as error:
            raise Failure(f"{error}: {last[-1]}") from None
        print(f"           strict admitted at try {len(last)}", flush=True)

    def certificates(self, number):
        """Every sidecar gets a new certificate, and in the first cycle the authority changes."""
        before = self.renewals()
        if number == 1:
            self.phases.begin(f"{number}: authority changes")
            self.plane.cli("ca", "rotate", "--hold", "2s")
        else:
            self.phases.begin(f"{number}: certificates are renewed")
        wait_until(lambda: all(count > before[name] for name, count in self.renewals().items()), 60,
                   f"every sidecar to have a new certificate: {before}, then {self.renewals()}")

    def renewals(self):
        """Certificates each sidecar has got so far."""
        counts = {}
        for name, admin in self.fleet.admins.items():
            counts[name] = json.loads(mesh.get(admin, "/mesh")).get("certificate", {}).get("renewals", 0)
        return counts

    def everyone_has(self, mode):
        """The rollout is over."""

        def over():
            said = json.loads(self.plane.cli("rollout", "status", "LinkEncryption/pay", "-o", "json", code=None))
            spread = said.get("spread") or {}
            return said["state"] not in ("running", "paused") and spread.get("running") == spread.get("wanted")

        try:
            wait_until(over, 40, f"the rollout of {mode} to be over")
        except Failure as error:
            raise Failure(f"{error}: {self.plane.cli('rollout', 'status', 'LinkEncryption/pay', code=None)}") from None

    def result(self):
        failures = [failure for load in self.loads for failure in load.failures()]
        rows = judge.summed(self.loads, self.phases, "before", "after")
        # What failed only showed at the end (the Java client's).
        failures = [failure for load in self.loads for failure in load.failures()] or failures
        return rows, failures


def switching(report):
    """The whole story twice, with every kind of caller."""
    need("ss")
    with Workspace("encryption") as work:
        run = Run(work)
        with links.Sampler(run.fleet.lanes) as run.sampler:
            run.start_loads()
            story(report, run)


def story(report, run):
    error = None
    run.phases.begin("before")
    time.sleep(BASELINE_S)
    try:
        run.cycle(1, kill=False)
        run.cycle(2, kill=True)
    except Failure as stopped:
        # What failed until then is told all the same.
        error = stopped
    run.phases.begin("after")
    time.sleep(AFTER_S)
    run.phases.end()
    rows, failures = run.result()
    switches = [switch.table() for switch in run.switches]
    write({"rps": RPS, "longS": LONG_S, "stages": STAGES, "loads": rows, "switches": switches,
           "phases": run.phases.list, "failures": failures[:200], "notRun": run.not_run,
           "stopped": None if error is None else str(error)})
    print(judge.table(rows, judge.LOADS))
    for switch in switches:
        print(judge.switch_table(switch))
    for one in run.not_run:
        report.skip("encryption", f"not run: {one}")
    if failures:
        print(judge.told(failures, run.phases, run.fleet.logs), flush=True)
    if error:
        report.fail("encryption", error)
    sent, failed = sum(row["sent"] for row in rows), sum(row["failed"] for row in rows)
    detail = f"{sent} requests sent, {failed} failed, at {RPS:.0f}/s and long ones of {LONG_S} s"
    (report.fail if failed else report.ok)("encryption no loss", detail)


def write(result):
    out = os.environ.get("ENCRYPTION_OUT")
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(json.dumps(result, indent=2) + "\n")


SUITES = {"encryption": switching}
