"""Runs the suites named on the command line, or all; see ../README.md."""

import argparse
import signal
import sys
import traceback
from pathlib import Path

for folder in ("capture", "api", "tls-peers", "wire-proof", "secrets", "encryption", "limits", "quota"):
    sys.path.append(str(Path(__file__).resolve().parent.parent / folder))

import capture
import cluster
import disturbance
import downgrade
import dubbo_suites
import envoy_links
import fuzz
import grpc_suites
import ha_suites
import http_load
import http_suites
import limits
import mesh_api_suites
import pairings
import quota_rls
import secret_hygiene
import switching
import tls_peers
import unplug
import wire_proof
import ws_suites
import xds_suites
from harness import Failure, Report, Skip

PAIRINGS = ("java-java", "node-node", "java-node", "node-java")
DISTURBANCES = {"reload": disturbance.reload, "kill": disturbance.kill, "unplug": unplug.unplug,
                "capture": capture.capture, "api": fuzz.fuzz, **grpc_suites.DISTURBANCES, **http_load.DISTURBANCES,
                **dubbo_suites.DISTURBANCES, **mesh_api_suites.SUITES, **xds_suites.SUITES, **ha_suites.SUITES,
                **tls_peers.SUITES, **downgrade.SUITES, **envoy_links.SUITES, **switching.SUITES, **cluster.SUITES,
                **wire_proof.SUITES, **secret_hygiene.SUITES, **quota_rls.SUITES}
# Suites that compare too, in a way of their own: (report, name, record).
COMPARISONS = {**{name: grpc_suites.pairing for name in grpc_suites.PAIRINGS}, **http_suites.COMPARISONS,
               **ws_suites.COMPARISONS, **limits.COMPARISONS, **{name: dubbo_suites.pairing for name in dubbo_suites.PAIRINGS}}
SUITES = (*PAIRINGS, *COMPARISONS, *DISTURBANCES)
LIMIT_SECONDS = 300
LIMITS = {"encryption": 600, "limits": 600}


class OutOfTime(Exception):
    """A suite took longer than it may."""


def on_alarm(_signal, _frame):
    raise OutOfTime("not done in time")


def on_end(_signal, _frame):
    # As Ctrl-C does: the workspaces end their processes on the way out.
    raise KeyboardInterrupt


def run(report, suite, record):
    limit = LIMITS.get(suite, LIMIT_SECONDS)
    signal.alarm(limit)
    try:
        if suite in DISTURBANCES:
            DISTURBANCES[suite](report)
        elif suite in COMPARISONS:
            COMPARISONS[suite](report, suite, record)
        else:
            pairings.run(report, suite, record)
    except Skip as reason:
        report.skip(suite, reason)
    except OutOfTime:
        report.fail(suite, f"not done after {limit} s")
    except Failure as error:
        report.fail(suite, error)
    except Exception:  # A mistake in the suite must not hide the other suites' results.
        report.fail(suite, traceback.format_exc())
    finally:
        signal.alarm(0)


def main():
    parser = argparse.ArgumentParser(description="Real peers, directly and through sidecars.")
    parser.add_argument("suites", nargs="*", metavar="SUITE",
                        help=f"of: {' '.join(SUITES)}; none = all")
    parser.add_argument("--record", action="store_true", help="write the direct outcomes as the expected ones")
    args = parser.parse_args()
    unknown = [suite for suite in args.suites if suite not in SUITES]
    if unknown:
        parser.error(f"no such suite: {' '.join(unknown)}; there are {' '.join(SUITES)}")
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, on_end)
    report = Report()
    try:
        for suite in args.suites or SUITES:
            run(report, suite, args.record)
    except KeyboardInterrupt:
        report.fail("run", "interrupted")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
