"""The caller over dubbo://: runs every case against one address and writes what each came to.

Usage: dubbo_client.py OUT.json cases|refused PORT, or dubbo_client.py OUT.json probe PORT TEXT...: echoes the texts.
"""

import logging
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

from dubbo_ssl.client import DubboClient
from dubbo_ssl.codec.encoder import Object
from outcomes import Outcomes

API = "io.raddle.interop.dubbo.api."
# The client writes what is beyond U+FFFF wrongly, so there is none of it.
TEXT = "héllo 中文 \u0000 end"


class Shop:
    def __init__(self, port, service="ShopService", group=None, version="1.0", timeout=5):
        self.client = DubboClient(API + service, group, version=version, dubbo_version="2.4.10",
                                  host=f"127.0.0.1:{port}")
        self.timeout = timeout

    def call(self, method, *args, context=None):
        return self.client.call(method, args, context=context, timeout=self.timeout)


def item(sku, count):
    return Object(API + "Order$Item", {"sku": sku, "count": count})


def order(number, buyer, replaces=None):
    return Object(API + "Order", {"id": number, "buyer": buyer, "gift": True, "weight": 3.25, "replaces": replaces})


def values(out, shop):
    out.run("value.plus", lambda: shop.call("plus", 1, 2))
    out.run("value.plus extremes", lambda: shop.call("plus", -2 ** 31, 2 ** 31 - 1))
    out.run("value.long", lambda: shop.call("echoLong", 2 ** 63 - 1))
    out.run("value.double", lambda: shop.call("echoDouble", -0.1))
    out.run("value.boolean", lambda: shop.call("not", True))
    out.run("value.echo ascii", lambda: shop.call("echo", "hello"))
    out.run("value.echo utf-8", lambda: shop.call("echo", TEXT))
    out.run("value.echo empty", lambda: shop.call("echo", ""))
    out.run("value.echo 40 KiB of two kinds", lambda: shop.call("echo", "中x" * (10 << 10)))
    # Of longer ones it loses a part.
    out.run("value.echo 30 KiB", lambda: shop.call("echo", "x" * (30 << 10)))
    out.run("value.item", lambda: shop.call("echoItem", item("笔", -7)))
    out.run("value.order", lambda: shop.call("echoOrder", order(2 ** 53 - 1, "Ada 洛芙莱斯", order(-1, "George"))))


def kinds(out, shop, port):
    def void():
        key = str(uuid.uuid4())
        shop.call("count", key)
        return shop.call("counted", key)

    def at_once():
        texts = [f"call {i} " + "x" * (i * 7 % 3000) for i in range(200)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda text: shop.call("echo", text), texts))
        return sum(answer == text for answer, text in zip(answers, texts))

    out.run("kind.void", void)
    out.run("kind.future", lambda: shop.call("later", "x", 20))
    out.run("kind.attachments", lambda: shop.call("echo", "attached", context={"tenant": "t-7"}))
    out.run("kind.group reaches the other instance", lambda: Shop(port, group="second").call("whoami"))
    out.run("kind.200 calls on 8 threads", at_once)


def failures(out, shop, port):
    out.run("failure.server throws", lambda: shop.call("boom", TEXT))
    out.run("failure.server throws a declared exception", lambda: shop.call("boomChecked", "x"))
    out.run("failure.no such method", lambda: shop.call("nosuch", 1))
    out.run("failure.wrong argument types", lambda: shop.call("plus", "x", "y"))
    out.run("failure.no such service", lambda: Shop(port, "MissingService").call("echo", "x"))
    out.run("failure.no such version", lambda: Shop(port, version="9.9").call("echo", "x"))
    out.run("failure.connection still serves", lambda: shop.call("plus", 3, 4))
    out.run("timeout.client", lambda: Shop(port, timeout=0.3).call("slow", 1500))
    out.run("timeout.connection still serves", lambda: shop.call("plus", 5, 6))


def refusals(out, shop, port):
    """What callers are told when the sidecar, not the callee, answers; see RefusalCases.java."""
    out.run("unknown.sync", lambda: Shop(port, "MissingService").call("echo", "x"))
    out.run("dead.sync", lambda: Shop(port, "DeadService").call("echo", "x"))
    out.run("aborted.sync", lambda: Shop(port, group="second").call("echo", "x"))
    out.run("unknown.connection still serves", lambda: shop.call("plus", 20, 22))


def main():
    path, what, port = sys.argv[1:4]
    logging.disable(logging.CRITICAL)
    out, shop = Outcomes(), Shop(port)
    if what == "probe":
        for text in sys.argv[4:]:
            out.run(text, lambda text=text: Shop(port, timeout=1).call("echo", text))
    elif what == "refused":
        refusals(out, shop, port)
    else:
        values(out, shop)
        kinds(out, shop, port)
        failures(out, shop, port)
    print(f"DONE {out.write(path)} cases")


if __name__ == "__main__":
    main()
