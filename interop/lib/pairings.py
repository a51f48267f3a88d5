"""Every case directly, then through two sidecars: the outcomes must be the same.

The direct outcomes must also be the recorded ones (`expected/`), so that two equal failures do not pass.
"""

import json
import re
from collections import defaultdict

import mesh
import peers
from harness import Failure, Skip, Workspace, free_ports

EXPECTED = peers.ROOT / "expected"

# Outcomes that differ through the mesh on purpose, and what they must be: case pattern -> outcome pattern.
THROUGH_MESH = [
    # The sidecar, not the server, knows that nobody publishes it, and says so.
    (r"(hessian-)?missing\.service", r"throw .*raddle NC: no such service is known to the sidecar"),
    # The Node server answers one-ways; the sidecar drops replies nobody waits for.
    (r"bolt-.*\.replies to one-ways", r"ok 0"),
    # The sidecar answers heartbeats in the version and with the checksum they came with.
    (r"bolt-v2-crc\.answers came in", r'ok \["bolt2/2\+crc"\]'),
]
# Whoever notices first, client or sidecar, words a timeout its own way.
TIMEOUT_CASE = re.compile(r"timeout\.(sync|future)$|^raw-.*\.timeout$")
TIMEOUT_OUTCOME = re.compile(r"throw .*([Tt]imeout|no response in)")


def run(report, name, record):
    """Runs one pairing, such as `java-node` (caller java, callee node)."""
    caller, callee = name.split("-")
    for peer in sorted({caller, callee}):
        {"java": peers.ready_java, "node": peers.ready_node}[peer]()
    with Workspace(name) as work:
        rpc, raw = free_ports(2)
        if callee == "java":
            peers.start_java_server(work, "server", rpc, raw)
        else:
            peers.start_node_server(work, "server", rpc)
            raw = 0
        direct = outcomes(work, "direct", caller, callee, rpc, raw)
        expected_file = EXPECTED / f"{name}.json"
        if record:
            EXPECTED.mkdir(exist_ok=True)
            expected_file.write_text(json.dumps(direct, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        expected = json.loads(expected_file.read_text())
        compare(report, f"{name} direct", expected, direct, same)
        try:
            pair = mesh.Pair(work, rpc, raw)
        except Skip as reason:
            report.skip(f"{name} through the mesh", reason)
            return
        meshed = outcomes(work, "meshed", caller, callee, pair.rpc, raw and pair.raw)
        if not compare(report, f"{name} through the mesh", direct, meshed, as_direct):
            work.print_logs()


def outcomes(work, name, caller, callee, rpc, raw):
    """Runs the client; {case: outcome}."""
    out = work.folder / f"{name}.json"
    if caller == "java":
        peers.run_java_client(work, f"client-{name}", out, callee, rpc, raw)
    else:
        peers.run_node_client(work, f"client-{name}", out, callee, rpc)
    return json.loads(out.read_text())


def same(_case, wanted, seen):
    return wanted == seen


def as_direct(case, direct, meshed):
    for pattern, outcome in THROUGH_MESH:
        if re.fullmatch(pattern, case):
            return re.match(outcome, meshed) is not None
    if TIMEOUT_CASE.search(case):
        return bool(TIMEOUT_OUTCOME.match(direct) and TIMEOUT_OUTCOME.match(meshed))
    return direct == meshed


def demanded(agree, case, wanted):
    """What a message says was wanted of a case."""
    patterns = [outcome for pattern, outcome in THROUGH_MESH if re.fullmatch(pattern, case)]
    return f"a match of {patterns[0]}" if agree is as_direct and patterns else wanted.get(case)


def compare(report, title, wanted, seen, agree):
    """One result a group (the case name up to its first dot); whether all were right."""
    if not wanted:
        raise Failure(f"{title}: no cases")
    groups = defaultdict(list)
    for case in sorted(wanted.keys() | seen.keys()):
        groups[case.split(".")[0]].append(case)
    right = True
    for group, cases in groups.items():
        wrong = [
            f"{case}\n      wanted {demanded(agree, case, wanted)}\n      seen   {seen.get(case)}"
            for case in cases
            if case not in wanted or case not in seen or not agree(case, wanted[case], seen[case])
        ]
        if wrong:
            right = False
            report.fail(f"{title} {group}", f"{len(wrong)} of {len(cases)} cases\n    " + "\n    ".join(wrong))
        else:
            report.ok(f"{title} {group}", f"{len(cases)} cases")
    return right
