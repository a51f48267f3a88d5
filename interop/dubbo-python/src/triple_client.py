"""The caller over Triple: runs every case against one address and writes what each came to.

Usage: triple_client.py OUT.json cases|refused JAVA_PORT PYTHON_PORT MESSAGES_FOLDER; the folder has shop_pb2.py, made
by protoc. This library ends its requests with one more, empty message. Its own server passes over that; Dubbo for
Java takes it for the request (unary) or for one of them, and its answers are recorded like that.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime

import dubbo
from dubbo.classes import EOF
from dubbo.configs import ReferenceConfig
from outcomes import Outcomes

JAVA = "io.raddle.interop.dubbo.proto.ShopProtoService"
PYTHON = "io.raddle.interop.dubbo.python.Shop"
TEXT = "héllo 中文 😀 \u0000 end"
PATIENCE_S = 10


class Shop:
    def __init__(self, port, messages, service):
        self.messages = messages
        self.client = dubbo.Client(ReferenceConfig.from_url(f"tri://127.0.0.1:{port}/{service}"))

    def request(self, text="", number=0, **fields):
        return self.messages.EchoRequest(text=text, number=number, **fields)

    def _codec(self):
        return {"request_serializer": lambda message: message.SerializeToString(),
                "response_deserializer": self.messages.EchoReply.FromString}

    def unary(self, method, request):
        """The reply; the client itself would wait for ever."""
        call, pool = self.client.unary(method, **self._codec()), ThreadPoolExecutor(1)
        try:
            return pool.submit(call, request).result(PATIENCE_S)
        except NotInTime:
            raise NotInTime(f"no reply in {PATIENCE_S} s") from None
        finally:
            pool.shutdown(wait=False)

    def server_stream(self, request):
        return drain(self.client.server_stream("serverStream", **self._codec())(request))

    def client_stream(self, requests):
        stream = self.client.client_stream("clientStream", **self._codec())(iter(requests))
        return drain(stream)

    def bi_stream(self):
        return self.client.bi_stream("biStream", **self._codec())()


def drain(stream):
    """All replies of a stream, as text."""
    replies = []
    while True:
        reply = stream.read(timeout=PATIENCE_S)
        if reply is None:
            raise NotInTime(f"no end after {len(replies)} replies")
        if reply is EOF:
            return replies
        replies.append(f"{reply.text}{reply.number}")


def fields(reply):
    return {"text": reply.text, "tags": list(reply.tags), "counts": dict(reply.counts), "number": reply.number}


def unary(out, name, shop):
    out.run(name + "unary.echo", lambda: fields(shop.unary("echo", shop.request(TEXT, tags=["a", "中"], counts={"k": -5}))))
    out.run(name + "unary.empty text", lambda: fields(shop.unary("echo", shop.request("", 1))))
    out.run(name + "unary.40 KiB", lambda: shop.unary("echo", shop.request(data=b"pattern" * 5852)).data)
    out.run(name + "unary.server throws", lambda: shop.unary("boom", shop.request("x")))
    out.run(name + "unary.100 calls on 8 threads", lambda: at_once(shop))
    out.run(name + "unary.connection still serves", lambda: fields(shop.unary("echo", shop.request("still"))))


def at_once(shop):
    texts = [f"call {i} " + "x" * (i * 7 % 3000) for i in range(100)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: shop.unary("echo", shop.request(text)).text, texts))
    return sum(answer == text for answer, text in zip(answers, texts))


def streams(out, name, shop):
    def by_turns():
        stream, seen = shop.bi_stream(), []
        for turn in range(20):
            stream.write(shop.request("turn", turn))
            reply = stream.read(timeout=PATIENCE_S)
            seen.append(f"{reply.text}{reply.number}")
        stream.done_writing()
        return seen + drain(stream)

    out.run(name + "stream.server, 5 answers", lambda: shop.server_stream(shop.request("s", 5)))
    out.run(name + "stream.server, 200 answers", lambda: len(shop.server_stream(shop.request("s", 200))))
    out.run(name + "stream.client, 3 requests", lambda: shop.client_stream([shop.request(text) for text in "abc"]))
    out.run(name + "stream.both, by turns", by_turns)
    out.run(name + "stream.connection still serves", lambda: fields(shop.unary("echo", shop.request("still"))))


def refusals(out, shop, port):
    """What callers are told when the sidecar, not the callee, answers; see RefusalCases.java."""
    missing = Shop(port, shop.messages, "io.raddle.interop.dubbo.api.MissingService")
    dead = Shop(port, shop.messages, "io.raddle.interop.dubbo.api.DeadService")
    out.run("unknown.unary", lambda: missing.unary("echo", shop.request("x")))
    out.run("dead.unary", lambda: dead.unary("echo", shop.request("x")))
    out.run("unknown.connection still serves", lambda: fields(shop.unary("echo", shop.request("still"))))


def main():
    path, what, java_port, python_port, folder = sys.argv[1:6]
    sys.path.insert(0, folder)
    import shop_pb2  # pylint: disable=import-error,import-outside-toplevel

    out, java, python = Outcomes(), Shop(java_port, shop_pb2, JAVA), Shop(python_port, shop_pb2, PYTHON)
    if what == "refused":
        refusals(out, python, python_port)
    else:
        for name, shop in (("java-", java), ("python-", python)):
            unary(out, name, shop)
            streams(out, name, shop)
        out.run("java-missing.service", lambda: Shop(java_port, shop_pb2, JAVA + "Nobody").unary(
            "echo", java.request("x")))
    print(f"DONE {out.write(path)} cases", flush=True)
    os._exit(0)  # The client's event loop has threads that do not end.


if __name__ == "__main__":
    main()
