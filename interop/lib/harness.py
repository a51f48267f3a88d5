"""Processes that never outlive the run, free ports, waiting with a deadline, and the count of results."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class Skip(Exception):
    """Something the suite needs is not on this machine."""


class Failure(Exception):
    """What was promised did not hold; the text says what."""


class Report:
    """Counts groups of cases and prints a line for each."""

    def __init__(self):
        self.passed = self.skipped = 0
        self.failures = []
        self.strict = os.environ.get("CI") == "true"

    def ok(self, name, detail):
        self.passed += 1
        print(f"PASS {name}: {detail}", flush=True)

    def fail(self, name, detail):
        line = f"FAIL {name}: {detail}"
        self.failures.append(line)
        print(line, flush=True)

    @property
    def failed(self):
        return len(self.failures)

    def skip(self, name, reason):
        self.skipped += 1
        print(f"SKIP {name}: {reason}", flush=True)
        if self.strict:
            self.fail(name, "skips are failures in CI")

    def finish(self):
        """Prints what failed once more, where the end of a long log is all one sees, and the closing line; the exit code."""
        if self.failures:
            print("what failed:", *self.failures, sep="\n", flush=True)
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed else 0


class Process:
    """A started program, with its output in a file."""

    def __init__(self, name, popen, log):
        self.name, self.popen, self.log = name, popen, log

    def output(self):
        return self.log.read_text(errors="replace")

    def alive(self):
        return self.popen.poll() is None

    def await_output(self, text, seconds):
        """Waits for a line that starts with `text`."""

        def seen():
            if not self.alive():
                raise Failure(f"{self.name} ended with {self.popen.returncode}:\n{tail(self.log)}")
            return any(line.startswith(text) for line in self.output().splitlines())

        wait_until(seen, seconds, f"{self.name} to print {text!r}")

    def finish(self, seconds):
        """Waits for its end, which must be a good one."""
        try:
            code = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} was not done after {seconds} s:\n{tail(self.log)}") from None
        if code != 0:
            raise Failure(f"{self.name} ended with {code}:\n{tail(self.log)}")
        return self.output()

    def kill(self):
        """Ends it at once, as `kill -9` does, with all it started."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()

    def stop(self, seconds=5):
        """Asks it to end, then makes it."""
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        self.kill()


class Workspace:
    """One suite's temporary folder, processes and ports; a context manager that leaves nothing behind."""

    def __init__(self, name):
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"raddle-interop-{name}-"))
        self.processes = []
        self.keep = False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        for process in reversed(self.processes):
            process.stop(2)
        if kind is not None and kind is not Skip:
            self.print_logs()
        if self.keep or os.environ.get("KEEP_LOGS"):
            print(f"logs of {self.name}: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def print_logs(self):
        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {self.name}: end of {log.name}", file=sys.stderr)
            print(tail(log), file=sys.stderr)

    def start(self, name, command, env=None, cwd=None):
        """Starts a program in a process group of its own."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            popen = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True, cwd=cwd, env={**os.environ, **(env or {})})
        process = Process(name, popen, log)
        self.processes.append(process)
        return process


def free_ports(count):
    """Ports nobody listens on just now."""
    held = []
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        held.append(one)
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def wait_until(condition, seconds, what):
    """Polls a condition until it holds; a Failure when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def accepts(port):
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tail(log, lines=25):
    """The last lines of a file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def need(*programs):
    """Skips when one of the programs is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            raise Skip(f"{program} is not installed")
