"""Calls everything with grpcio and writes what came of it: `client.py OUT TARGET NARROW_TARGET [CASE]`.

The outcome of a case is one line of text, equal for every peer and way that does it right.
"""

import hashlib
import json
import queue
import sys
import time

import echo_pb2
import echo_pb2_grpc
import grpc
from echo_pb2 import Ask
from grpc_health.v1 import health_pb2, health_pb2_grpc

LARGE = 4 << 20
RAISED = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
PINGS = [("grpc.keepalive_time_ms", 100), ("grpc.keepalive_timeout_ms", 2000),
         ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)]
STREAMS, ROUNDS = 100, 10
# Longer than any case takes on a busy machine; a case that needs it hangs.
PATIENCE_S = 20
DONE = object()

cases = {}


def case(name):
    def keep(function):
        cases[name] = function
        return function
    return keep


class Peers:
    """Channels to the server, and to the one that allows few streams."""

    def __init__(self, target, narrow):
        self.target = target
        self.channel = grpc.insecure_channel(target, RAISED)
        self.narrow = echo_pb2_grpc.NarrowStub(grpc.insecure_channel(narrow))
        self.echo = echo_pb2_grpc.EchoStub(self.channel)

    def other(self, options=(), **more):
        return echo_pb2_grpc.EchoStub(grpc.insecure_channel(self.target, options, **more))

    def ended(self, name):
        """How the server says a watched call ended, as soon as it knows."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            how = self.echo.Ended(Ask(watch=name), timeout=PATIENCE_S).text
            if how:
                return how
            time.sleep(0.02)
        return "not at all within 5 s"


class Talk:
    """A call whose requests are sent one by one, when the test says so."""

    def __init__(self, method, **options):
        self.requests = queue.Queue()
        self.call = method(iter(self.requests.get, DONE), timeout=options.pop("timeout", PATIENCE_S), **options)

    def say(self, **ask):
        self.requests.put(Ask(**ask))

    def done(self):
        self.requests.put(DONE)

    def hear(self):
        return next(self.call).text


def digest(size):
    return hashlib.sha1(bytes(size)).hexdigest()


def shown(metadata):
    """The tests' own metadata as text."""
    return sorted(f"{name}={value.hex() if isinstance(value, bytes) else value}"
                  for name, value in metadata or () if name.startswith("shop-"))


@case("unary.echo")
def unary_echo(peers):
    answer = peers.echo.Unary(Ask(text="tea 茶", payload=bytes(1000)), timeout=PATIENCE_S)
    return answer.text, answer.digest == digest(1000)


@case("unary.empty")
def unary_empty(peers):
    answer = peers.echo.Unary(Ask(), timeout=PATIENCE_S)
    return answer.text, answer.digest == digest(0)


@case("unary.metadata")
def unary_metadata(peers):
    sent = (("shop-a", "1"), ("shop-a", "2"), ("shop-text", "a, b; c=\"d\" ~!%41"), ("shop-bytes-bin", b"\x00\xff\x10"),
            ("shop-bytes-bin", b""), ("shop-want", "yes"))
    answer, call = peers.echo.Unary.with_call(Ask(), metadata=sent, timeout=PATIENCE_S)
    return list(answer.metadata), shown(call.initial_metadata()), shown(call.trailing_metadata())


@case("unary.large up")
def large_up(peers):
    return peers.echo.Unary(Ask(payload=bytes(LARGE)), timeout=PATIENCE_S).digest == digest(LARGE)


@case("unary.large down")
def large_down(peers):
    return len(peers.echo.Unary(Ask(reply_bytes=LARGE), timeout=PATIENCE_S).payload)


@case("unary.large both ways")
def large_both(peers):
    answer = peers.echo.Unary(Ask(payload=bytes(LARGE), reply_bytes=LARGE), timeout=PATIENCE_S)
    return len(answer.payload), answer.digest == digest(LARGE)


@case("unary.gzip")
def gzip(peers):
    echo = peers.other(RAISED, compression=grpc.Compression.Gzip)
    answer = echo.Unary(Ask(payload=bytes(LARGE), reply_bytes=1000), timeout=PATIENCE_S)
    return len(answer.payload), answer.digest == digest(LARGE)


@case("unary.100 at once")
def at_once(peers):
    calls = [peers.echo.Unary.future(Ask(text=str(n), wait_ms=50), timeout=PATIENCE_S) for n in range(STREAMS)]
    return [call.result().text for call in calls] == [str(n) for n in range(STREAMS)]


@case("unary.40 at once, 4 streams a connection")
def narrow(peers):
    peers.narrow.Unary(Ask(), timeout=PATIENCE_S)  # The server's settings are known after a first call.
    calls = [peers.narrow.Unary.future(Ask(text=str(n), wait_ms=20), timeout=PATIENCE_S) for n in range(40)]
    return [call.result().text for call in calls] == [str(n) for n in range(40)]


@case("failure.plain")
def failure(peers):
    return peers.echo.Unary(Ask(status=9, message="not now"), timeout=PATIENCE_S)


@case("failure.message that is not ASCII")
def failure_text(peers):
    return peers.echo.Unary(Ask(status=10, message="boom: 中文 100% ü %41"), timeout=PATIENCE_S)


@case("failure.with metadata")
def failure_metadata(peers):
    try:
        peers.echo.Unary(Ask(status=5, message="gone"), metadata=(("shop-want", "yes"),), timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return error.code().name, shown(error.initial_metadata()), shown(error.trailing_metadata())


@case("failure.every status")
def failure_codes(peers):
    seen = []
    for status in range(1, 17):
        try:
            peers.echo.Unary(Ask(status=status, message=f"m{status}"), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            seen.append(f"{error.code().value[0]} {error.details()}")
    return seen


@case("missing.method's service")
def missing(peers):
    return echo_pb2_grpc.MissingStub(peers.channel).Unary(Ask(), timeout=PATIENCE_S)


@case("missing.server")
def dead(peers):
    return echo_pb2_grpc.DeadStub(peers.channel).Unary(Ask(), timeout=PATIENCE_S)


@case("deadline.none")
def no_deadline(peers):
    return peers.echo.Unary(Ask()).deadline_ms


@case("deadline.seen by the server")
def deadline(peers):
    left = peers.echo.Unary(Ask(), timeout=3).deadline_ms
    # grpcio rounds what it sends up, by up to one percent.
    return "about 3 s" if 2000 < left <= 3050 else left


@case("deadline.exceeded")
def deadline_exceeded(peers):
    try:
        peers.echo.Unary(Ask(wait_ms=8000, watch="deadline"), timeout=0.4)
    except grpc.RpcError as error:
        return error.code().name, peers.ended("deadline")


@case("deadline.exceeded in a stream")
def stream_deadline(peers):
    talk = Talk(peers.echo.Chat, timeout=0.6)
    talk.say(text="a", watch="stream deadline")
    heard = talk.hear()
    try:
        talk.hear()
    except grpc.RpcError as error:
        return heard, error.code().name, peers.ended("stream deadline")


@case("cancel.unary")
def cancel(peers):
    call = peers.echo.Unary.future(Ask(wait_ms=8000, watch="cancel"), timeout=PATIENCE_S)
    peers.echo.Unary(Ask(), timeout=PATIENCE_S)
    time.sleep(0.1)  # A call cancelled before it was sent proves nothing.
    call.cancel()
    return call.code().name, peers.ended("cancel")


@case("cancel.download")
def cancel_download(peers):
    call = peers.echo.Download(Ask(text="x", replies=1 << 20, reply_bytes=1000, watch="cancel download"))
    heard = [next(call).text, next(call).text]
    call.cancel()
    return heard, call.code().name, peers.ended("cancel download")


@case("cancel.chat")
def cancel_chat(peers):
    talk = Talk(peers.echo.Chat)
    talk.say(text="a", watch="cancel chat")
    heard = talk.hear()
    talk.call.cancel()
    talk.done()
    return heard, talk.call.code().name, peers.ended("cancel chat")


@case("download.10")
def download(peers):
    return [answer.text for answer in peers.echo.Download(Ask(text="d", replies=10), timeout=PATIENCE_S)]


@case("download.none")
def download_none(peers):
    return [answer.text for answer in peers.echo.Download(Ask(), timeout=PATIENCE_S)]


@case("download.8 MiB")
def download_large(peers):
    call = peers.echo.Download(Ask(replies=128, reply_bytes=65536), timeout=PATIENCE_S)
    return sum(len(answer.payload) for answer in call)


@case("download.fails after 3")
def download_fails(peers):
    heard = []
    try:
        for answer in peers.echo.Download(Ask(text="d", replies=3, status=8, message="enough"), timeout=PATIENCE_S):
            heard.append(answer.text)
    except grpc.RpcError as error:
        return heard, error.code().name, error.details()


@case("download.metadata comes first")
def download_metadata(peers):
    call = peers.echo.Download(Ask(replies=1, wait_ms=500), metadata=(("shop-want", "yes"),), timeout=PATIENCE_S)
    begun = time.monotonic()
    initial = shown(call.initial_metadata())
    early = time.monotonic() - begun < 0.4
    return initial, early, len(list(call)), shown(call.trailing_metadata())


@case("upload.20")
def upload(peers):
    answer = peers.echo.Upload((Ask(text=str(n), payload=bytes(100)) for n in range(20)), timeout=PATIENCE_S)
    return answer.text, answer.messages, answer.digest == digest(2000)


@case("upload.none")
def upload_none(peers):
    return peers.echo.Upload(iter(()), timeout=PATIENCE_S).messages


@case("upload.8 MiB")
def upload_large(peers):
    answer = peers.echo.Upload((Ask(payload=bytes(65536)) for _ in range(128)), timeout=PATIENCE_S)
    return answer.messages, answer.digest == digest(8 << 20)


@case("upload.fails before its end")
def upload_fails(peers):
    talk = Talk(peers.echo.Upload.future)
    talk.say(text="a")
    talk.say(text="b", status=3, message="bad")
    try:
        talk.call.result()  # The client has not said that it is done.
    except grpc.RpcError as error:
        return error.code().name, error.details()
    finally:
        talk.done()


@case("chat.ping-pong")
def chat(peers):
    talk = Talk(peers.echo.Chat)
    heard = []
    for number in range(50):
        talk.say(text=str(number))
        heard.append(talk.hear())
    talk.done()
    return heard == [str(number) for number in range(50)], [answer.text for answer in talk.call], talk.call.code().name


@case("chat.server speaks first")
def chat_greeting(peers):
    talk = Talk(peers.echo.Chat, metadata=(("shop-greet", "yes"), ("shop-want", "yes")))
    heard = [shown(talk.call.initial_metadata()), talk.hear()]
    talk.done()
    return heard, talk.hear(), shown(talk.call.trailing_metadata())


@case("chat.fails")
def chat_fails(peers):
    talk = Talk(peers.echo.Chat)
    talk.say(text="a")
    heard = talk.hear()
    talk.say(status=6, message="twice")
    try:
        talk.hear()
    except grpc.RpcError as error:
        return heard, error.code().name, error.details()
    finally:
        talk.done()


@case("chat.100 streams in turn")
def chat_many(peers):
    talks = [Talk(peers.echo.Chat) for _ in range(STREAMS)]
    right = 0
    for number in range(ROUNDS):
        for index, talk in enumerate(talks):
            talk.say(text=f"{index} {number}")
        right += sum(talk.hear() == f"{index} {number}" for index, talk in enumerate(talks))
    for talk in talks:
        talk.done()
    return right, sum(talk.hear() == "bye" for talk in talks)


@case("chat.keepalive pings while idle")
def keepalive(peers):
    talk = Talk(peers.other(PINGS).Chat)
    talk.say(text="a")
    heard = [talk.hear()]
    time.sleep(1.2)  # Twelve pings: a peer that minds them ends the connection.
    talk.say(text="b")
    heard.append(talk.hear())
    talk.done()
    return heard, [answer.text for answer in talk.call]


@case("health.check")
def health(peers):
    stub = health_pb2_grpc.HealthStub(peers.channel)
    names = ("", "raddle.interop.Echo", "raddle.interop.Closed")
    return [stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_S).status for name in names]


@case("health.check of an unknown service")
def health_unknown(peers):
    stub = health_pb2_grpc.HealthStub(peers.channel)
    try:
        return stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return error.code().name


@case("health.watch")
def health_watch(peers):
    stub = health_pb2_grpc.HealthStub(peers.channel)
    call = stub.Watch(health_pb2.HealthCheckRequest(service="raddle.interop.Echo"), timeout=PATIENCE_S)
    first = next(call).status
    call.cancel()
    return first


def reason(error):
    """Why a sidecar answered in place of the server."""
    metadata = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    return "".join(f" [{name}: {value}]" for name, value in metadata if name == "x-raddle-reason")


def outcome(function, peers):
    try:
        return "ok " + json.dumps(function(peers), ensure_ascii=False)
    except grpc.RpcError as error:
        return f"throw {error.code().name}: {error.details()}{reason(error)}"
    except Exception as error:  # A surprise is an outcome too: it is compared like any other.
        return f"surprise {type(error).__name__}: {error}"


def main():
    out, target, narrow_target = sys.argv[1:4]
    only = sys.argv[4:]
    peers = Peers(target, narrow_target)
    results = {}
    for name, function in cases.items():
        if only and name not in only:
            continue
        began = time.monotonic()
        results[name] = outcome(function, peers)
        print(f"{time.monotonic() - began:6.2f} s {name}: {results[name][:200]}", flush=True)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(results, file, ensure_ascii=False, indent=1)


main()
