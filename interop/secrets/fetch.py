"""Asks an SDS socket for a certificate and prints the key and the chain, PEM: `fetch.py SOCKET [SECRET]`. Messages are
written by hand: DiscoveryRequest {node = 2 {id = 1}, resource_names = 3, type_url = 4}."""

import re
import sys

import grpc

URL = b"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
METHOD = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def main():
    socket, name = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "default"
    request = field(2, field(1, b"fetch")) + field(3, name.encode()) + field(4, URL)

    def asks():
        yield request

    # Whatever HTTP/2 makes of a path as authority is not asked for.
    with grpc.insecure_channel(f"unix:{socket}", [("grpc.default_authority", "localhost")]) as channel:
        stream = channel.stream_stream(METHOD, request_serializer=None, response_deserializer=None)
        answer = next(stream(asks(), timeout=10))
    for pem in re.findall(rb"-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----", answer):
        print(pem.decode())


main()
