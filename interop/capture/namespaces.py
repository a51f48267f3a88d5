"""Two machines on one cable, as network namespaces: one with the app and its sidecar, one far away."""

import ctypes
import os
import re
import socket
import subprocess
import threading
from contextlib import contextmanager

from harness import Failure

APP, FAR = "raddle-capture-app", "raddle-capture-far"
ADDRESS = {4: {APP: "10.213.8.1", FAR: "10.213.8.2"}, 6: {APP: "fd00:213:8::1", FAR: "fd00:213:8::2"}}
CLONE_NEWNET = 0x40000000


def run(*command, text=None):
    """Runs a program; its output."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def in_ns(name, *command, text=None):
    return run("ip", "netns", "exec", name, *command, text=text)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Namespaces:
    """Both machines; gone again at the end, with what listens in them."""

    def __enter__(self):
        self.listeners = []
        self.clean()
        try:
            self.build()
        except BaseException:
            self.clean()
            raise
        return self

    def build(self):
        for name in (APP, FAR):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", APP, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", FAR)
        for name in (APP, FAR):
            run("ip", "-n", name, "addr", "add", f"{ADDRESS[4][name]}/24", "dev", "eth0")
            run("ip", "-n", name, "-6", "addr", "add", f"{ADDRESS[6][name]}/64", "dev", "eth0", "nodad")
            # No link-local address, which would appear some time later and look like a change.
            run("ip", "-n", name, "link", "set", "eth0", "addrgenmode", "none", "up")

    @staticmethod
    def clean():
        for name in (APP, FAR):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def __exit__(self, *_):
        for listener in self.listeners:
            listener.close()
        self.clean()

    @staticmethod
    @contextmanager
    def inside(name):
        """Sockets made in here are made on that machine."""
        libc = ctypes.CDLL(None, use_errno=True)
        # This thread's own: /proc/self is the process's first thread.
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET) != 0:
                raise Failure(f"setns {name}: {os.strerror(ctypes.get_errno())}")
            yield
        finally:
            libc.setns(before, CLONE_NEWNET)
            os.close(before)
            os.close(there)

    def serve(self, name, port, handle):
        """Serves both families on a port of a machine; `handle` gets each connection, in a thread."""
        for family in (4, 6):
            address = ADDRESS[family][name]
            with self.inside(name):
                listener = socket.socket(family_of(address), socket.SOCK_STREAM)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, port))
                listener.listen(64)
            self.listeners.append(listener)
            threading.Thread(target=accept_all, args=(listener, handle), daemon=True).start()

    def connect(self, name, address, port, timeout=5):
        """A connection from a machine."""
        with self.inside(name):
            one = socket.socket(family_of(address), socket.SOCK_STREAM)
            one.settimeout(timeout)
            try:
                one.connect((address, port))
            except OSError:
                one.close()
                raise
        return one


def accept_all(listener, handle):
    while True:
        try:
            one, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=guarded, args=(one, handle), daemon=True).start()


def guarded(one, handle):
    with one:
        try:
            handle(one)
        except OSError:
            pass  # Its peer went away, as some tests have it.


def tables():
    """All that capture may change on the app's machine, as the tools print it. Counters of packets, which
    traffic changes, and the lines with the time of day are left out."""
    commands = [
        ["iptables-nft-save"], ["ip6tables-nft-save"], ["iptables-legacy-save"], ["ip6tables-legacy-save"],
        ["nft", "list", "ruleset"], ["ip", "rule", "show"], ["ip", "-6", "rule", "show"],
        ["ip", "route", "show", "table", "all"], ["ip", "-6", "route", "show", "table", "all"],
    ]
    texts = []
    for command in commands:
        text = "\n".join(line for line in in_ns(APP, *command).splitlines() if not line.startswith("#"))
        text = re.sub(r"\[\d+:\d+\]", "[0:0]", text)
        text = re.sub(r"counter packets \d+ bytes \d+", "counter", text)
        texts.append(f"== {' '.join(command)}\n{text}\n")
    return "".join(texts)
