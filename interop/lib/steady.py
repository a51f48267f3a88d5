"""Clients that call at a steady pace and say who answered: what control-plane suites watch a mesh with."""

import json
import time

import grpc_peers
from harness import Failure, wait_until


class Watcher:
    """One such client; its lines are read as they come."""

    def __init__(self, work, name, command, env=None):
        self.name = name
        self.process = work.start(name, command, {**grpc_peers.SETTINGS, **(env or {})})
        self.process.await_output("STARTED", 60)

    def lines(self, since=0.0):
        """What it said after a moment (seconds since the epoch)."""
        said = []
        for line in self.process.output().splitlines():
            if line.startswith("{") and line.endswith("}"):
                one = json.loads(line)
                if one["at"] >= since * 1000:
                    said.append(one)
        return said

    def answered(self, since):
        """Who answered since then, and how often."""
        return total(self.lines(since), "by")

    def failures(self, since=0.0):
        return total(self.lines(since), "failed")

    def sees(self, names, seconds=20):
        """Waits until exactly these servers answer, for half a second without any other and without failure."""

        def settled():
            if not self.process.alive():
                raise Failure(f"{self.name} has ended:\n{self.process.output()[-2000:]}")
            recent = self.lines(time.time() - 0.6)
            return len(recent) > 3 and set(total(recent, "by")) == set(names) and not total(recent, "failed")

        try:
            wait_until(settled, seconds, f"{self.name} to be answered by {sorted(names)}")
        except Failure as error:
            last = self.lines(time.time() - 2)
            raise Failure(f"{error}; its last 2 s: {total(last, 'by')}, failed {total(last, 'failed')}") from None

    def faultless(self, since, what):
        """No call failed since then, and some were answered."""
        failed, by = self.failures(since), self.answered(since)
        if failed or not by:
            raise Failure(f"{what}: {self.name} had failures {failed}, answers {by}")
        return sum(by.values())


def total(lines, field):
    counts = {}
    for line in lines:
        for name, count in line[field].items():
            counts[name] = counts.get(name, 0) + count
    return counts
