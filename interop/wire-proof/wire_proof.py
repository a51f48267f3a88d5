"""What a capture of the packets between two sidecars shows: every marker before links are encrypted, none after, every
one again when they are not. Two machines (network namespaces) on one cable; apps and clients are on the machines'
loopback, so only what sidecars say to each other is on the cable. Needs root and iproute2."""

import http.client
import json
import os
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

import mesh
import parties
import pki
from harness import Failure, Skip, Workspace, need, wait_until
from namespaces import Namespaces, run

CALLEE, CALLER = "raddle-wire-callee", "raddle-wire-caller"
ADDRESS = {CALLEE: "10.213.9.1", CALLER: "10.213.9.2"}
ADMIN, OUT = 15000, 15001
# Inbound port and the app's, by protocol.
PORTS = {"bolt": (7001, 9001), "dubbo": (7002, 9002), "http": (7003, 9003), "http2": (7004, 9003)}
HOSTS = {"http": "pay.test", "http2": "pay2.test"}
NAMES = {"bolt": parties.SERVICE, "dubbo": "com.shop.Ledger:1.0.0", **HOSTS}
SECRET = "4929-1234-5678-9012"
CALLS = 1000
# Besides the secret: what would tell that a protocol is spoken in plaintext.
WORDS = {"bolt": b"sofa_head_target_service", "dubbo": b"com.shop.Ledger", "http": b"POST /pay"}
ALL_PACKETS = 0x0003
SOL_PACKET, PACKET_STATISTICS = 263, 6


def marker(protocol):
    return f"{protocol}-card-{SECRET}"


class Cable:
    """Both machines, gone again at the end."""

    def __enter__(self):
        self.clean()
        try:
            for name in ADDRESS:
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", CALLEE, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", CALLER)
            for name, address in ADDRESS.items():
                run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
                run("ip", "-n", name, "link", "set", "eth0", "up")
        except BaseException:
            self.clean()
            raise
        return self

    @staticmethod
    def clean():
        for name in ADDRESS:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def __exit__(self, *_):
        self.clean()


class Capture:
    """Everything that passes the callee's end of the cable, looked through packet by packet."""

    def __init__(self):
        with Namespaces.inside(CALLEE):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PACKETS))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.bind(("eth0", ALL_PACKETS))
        self.socket.settimeout(0.2)
        self.wanted = {protocol: marker(protocol).encode() for protocol in PORTS}
        self.seen, self.words, self.last = dict.fromkeys(PORTS, 0), dict.fromkeys(WORDS, 0), 0.0
        self.packets = self.bytes = self.records = 0
        self.lock, self.ended = threading.Lock(), False
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.ended:
            try:
                packet = self.socket.recv(1 << 18)
            except TimeoutError:
                continue
            with self.lock:
                self.packets += 1
                self.bytes += len(packet)
                self.records += b"\x17\x03\x03" in packet
                for protocol, wanted in self.wanted.items():
                    if count := packet.count(wanted):
                        self.seen[protocol] += count
                        self.last = time.monotonic()
                for protocol, word in WORDS.items():
                    self.words[protocol] += word in packet

    def take(self):
        """What was seen since the last call: markers and words by protocol, packets, bytes, TLS records."""
        with self.lock:
            taken = (dict(self.seen), dict(self.words), self.packets, self.bytes, self.records)
            self.seen, self.words = dict.fromkeys(PORTS, 0), dict.fromkeys(WORDS, 0)
            self.packets = self.bytes = self.records = 0
        return taken

    def dropped(self):
        """Packets the kernel had no room for since the last call."""
        return struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]

    def close(self):
        self.ended = True
        self.thread.join()
        self.socket.close()


def hessian(text):
    data = text.encode()
    head = bytes([len(data)]) if len(data) < 32 else bytes([0x30 + (len(data) >> 8), len(data) & 0xFF])
    return head + data


def dubbo_request(number, service, secret):
    """A call of `pay(String)` with the secret as argument and as attachment."""
    name, version = service.split(":")
    pairs = [("path", name), ("interface", name), ("version", version), ("memo", secret)]
    body = b"".join(hessian(one) for one in ("2.0.2", name, version, "pay", "Ljava/lang/String;", secret))
    body += b"H" + b"".join(hessian(key) + hessian(value) for key, value in pairs) + b"Z"
    return struct.pack(">HBBQI", 0xDABB, 0xC2, 0, number, len(body)) + body


class Client:
    """Calls one protocol's service through the caller's sidecar, on one connection."""

    def __init__(self, protocol):
        self.protocol, self.secret = protocol, marker(protocol)
        self.failed, self.ended = [], False
        with Namespaces.inside(CALLER):
            if protocol in HOSTS:
                self.http = http.client.HTTPConnection("127.0.0.1", OUT, timeout=10)
                self.http.connect()
            else:
                self.tcp = socket.create_connection(("127.0.0.1", OUT), 10)

    def call(self, number):
        one = {"bolt": self.bolt, "dubbo": self.dubbo}.get(self.protocol, self.web)
        try:
            wrong = one(number)
        except (OSError, http.client.HTTPException) as error:
            wrong, self.ended = f"{type(error).__name__}: {error}", True
        if wrong:
            self.failed.append(wrong)

    def bolt(self, number):
        self.tcp.sendall(parties.bolt_request(number, content=self.secret.encode()))
        answered, status, headers, _ = parties.bolt_reply(self.tcp)
        return None if (answered, status) == (number, 0) else f"status {status} {headers}"

    def dubbo(self, number):
        self.tcp.sendall(dubbo_request(number, NAMES["dubbo"], self.secret))
        _, _, status, answered, length = struct.unpack(">HBBQI", parties.exactly(self.tcp, 16))
        body = parties.exactly(self.tcp, length)
        return None if (answered, status) == (number, 20) else f"status {status} {body[:200]}"

    def web(self, number):
        self.http.request("POST", f"/pay/{number}", body=self.secret,
                          headers={"Host": HOSTS[self.protocol], "X-Memo": self.secret})
        answer = self.http.getresponse()
        body = answer.read()
        if answer.will_close or self.http.sock is None:
            # The sidecar asked for a new connection, which is no failure.
            self.http.close()
            with Namespaces.inside(CALLER):
                self.http.connect()
        return None if answer.status == 200 and self.secret.encode() in body else f"{answer.status} {body[:200]}"


def start(work, machine, name, text):
    """A sidecar on one of the machines."""
    path = work.folder / f"{name}.yaml"
    mesh.write(path, text)
    process = work.start(name, ["ip", "netns", "exec", machine, mesh.binary(), "proxy", "--config", path])

    def ready():
        if not process.alive():
            process.finish(1)
        try:
            with Namespaces.inside(machine), urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/ready", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    wait_until(ready, 15, f"{name} to be ready")
    return path


def page(machine, path):
    with Namespaces.inside(machine), urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}{path}", timeout=5) as answer:
        return json.loads(answer.read())


class Load(threading.Thread):
    """Calls every protocol in turn, over and over."""

    def __init__(self):
        super().__init__(daemon=True)
        self.clients = [Client(protocol) for protocol in PORTS]
        self.rounds, self.ended = 0, False
        self.start()

    def run(self):
        while not self.ended and not any(client.ended for client in self.clients):
            for client in self.clients:
                client.call(self.rounds + 1)
            self.rounds += 1

    def more(self, rounds):
        """Waits for so many further calls of every protocol; how many calls that were in all."""
        before = self.rounds
        wait_until(lambda: self.rounds >= before + rounds or not self.is_alive(), 120, f"{rounds} calls each")
        wrong = {client.protocol: client.failed[:3] for client in self.clients if client.failed}
        if wrong:
            raise Failure(f"calls failed: {wrong}")
        return (self.rounds - before) * len(self.clients)


class Setting:
    """Sidecars on both machines, apps behind the one, clients before the other."""

    def __init__(self, work):
        authority = pki.Authority(work.folder)
        self.shop = authority.app("shop")
        forwards = [f"listen: {ADDRESS[CALLEE]}:{at}, forward: 127.0.0.1:{app}" + (
            ", appProtocol: http" if protocol == "http2" else "") for protocol, (at, app) in PORTS.items()]
        for protocol in ("bolt", "dubbo"):
            work.start(f"{protocol}-app", ["ip", "netns", "exec", CALLEE, mesh.binary(), "bench", "serve", "--protocol",
                                           protocol, "--listen", f"127.0.0.1:{PORTS[protocol][1]}"])
        with Namespaces.inside(CALLEE):
            self.web = parties.App(PORTS["http"][1])
        start(work, CALLEE, "pay-1", parties.sidecar("pay-1", "pay", ADMIN, authority.app("pay"), inbound=forwards)
              + "---\n" + parties.encryption("permissive"))
        self.config = start(work, CALLER, "shop-1", self.caller(False))
        self.load = Load()

    def caller(self, tls):
        services = [parties.service(at, "{required: true}" if tls else "false", name=NAMES[protocol], protocol=protocol,
                                    address=ADDRESS[CALLEE]) for protocol, (at, _) in PORTS.items()]
        return mesh.document(parties.sidecar("shop-1", "shop", ADMIN, self.shop, outbound=[f"listen: 127.0.0.1:{OUT}"]),
                             *services)

    def switch(self, tls):
        mesh.write(self.config, self.caller(tls))


def readable(capture, setting, what):
    capture.take()
    calls = setting.load.more(CALLS // 2)
    seen, words, packets, *_ = capture.take()
    missing = [protocol for protocol, count in seen.items() if count < CALLS // 4] + [
        protocol for protocol, count in words.items() if not count]
    if missing:
        raise Failure(f"{what}: the capture does not show {missing}: {seen} {words} in {packets} packets")
    return f"{calls} calls, markers seen {seen}"


def proof(report):
    if os.geteuid() != 0:
        raise Skip("needs root for network namespaces and packet sockets")
    need("ip", "openssl")
    with Workspace("wire-proof") as work, Cable():
        setting = Setting(work)
        capture = Capture()
        try:
            report.ok("wire-proof before", readable(capture, setting, "plaintext"))
            began = time.monotonic()
            setting.switch(True)
            wait_until(lambda: time.monotonic() - max(began, capture.last) > 1.0 and capture.records > 0, 30,
                       "the last marker on the cable")
            took = max(0.0, capture.last - began)
            capture.take()
            capture.dropped()
            calls = setting.load.more(CALLS)
            seen, words, packets, size, records = capture.take()
            dropped = capture.dropped()
            if any(seen.values()) or any(words.values()):
                raise Failure(f"encrypted, and the capture shows {seen} {words} in {packets} packets")
            if dropped or records < calls:
                raise Failure(f"{calls} calls, and only {records} packets with TLS records; {dropped} were not captured")
            report.ok("wire-proof after", f"switched under load, last marker after {took:.2f} s; then {calls} calls in "
                                          f"{packets} packets, {size >> 10} KiB: no marker, no word of any protocol")
            setting.switch(False)
            wait_until(lambda: all(capture.seen.values()), 30, "markers on the cable again")
            report.ok("wire-proof back", readable(capture, setting, "plaintext again") + "; 0 calls failed in all")
        finally:
            setting.load.ended = True
            capture.close()


SUITES = {"wire-proof": proof}
