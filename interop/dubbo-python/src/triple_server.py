"""The callee over Triple in Python. Usage: triple_server.py PORT MESSAGES_FOLDER; prints READY when it listens."""

import sys
import threading
import time

import dubbo
from dubbo.classes import EOF
from dubbo.configs import ServiceConfig
from dubbo.proxy.handlers import RpcMethodHandler, RpcServiceHandler

SERVICE = "io.raddle.interop.dubbo.python.Shop"


class Shop:
    """What ShopProtoService.java is, as far as this library goes."""

    def __init__(self, messages):
        self.messages = messages

    def reply(self, request, number):
        return self.messages.EchoReply(text=request.text, tags=request.tags, counts=request.counts, number=number,
                                       data=request.data)

    def echo(self, request):
        if request.number > 0:
            time.sleep(request.number / 1000)
        return self.reply(request, request.number)

    def boom(self, request):
        raise ValueError("boom: " + request.text)

    def server_stream(self, stream):
        request = stream.read()
        for number in range(request.number):
            yield self.reply(request, number)
        if request.text == "boom":
            raise ValueError("stream boom")

    def client_stream(self, stream):
        texts = [request.text for request in requests(stream)]
        return self.messages.EchoReply(text="+".join(texts), number=len(texts))

    def bi_stream(self, stream):
        for request in requests(stream):
            yield self.reply(request, request.number)


def requests(stream):
    while (request := stream.read()) is not EOF:
        yield request


def main():
    port, folder = int(sys.argv[1]), sys.argv[2]
    sys.path.insert(0, folder)
    import shop_pb2  # pylint: disable=import-error,import-outside-toplevel

    shop = Shop(shop_pb2)
    codec = {"request_deserializer": shop_pb2.EchoRequest.FromString,
             "response_serializer": lambda message: message.SerializeToString()}
    handler = RpcServiceHandler(service_name=SERVICE, method_handlers=[
        RpcMethodHandler.unary(shop.echo, method_name="echo", **codec),
        RpcMethodHandler.unary(shop.boom, method_name="boom", **codec),
        RpcMethodHandler.server_stream(shop.server_stream, method_name="serverStream", **codec),
        RpcMethodHandler.client_stream(shop.client_stream, method_name="clientStream", **codec),
        RpcMethodHandler.bi_stream(shop.bi_stream, method_name="biStream", **codec),
    ])
    dubbo.Server(ServiceConfig(service_handler=handler, host="127.0.0.1", port=port)).start()
    print("READY", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
