"""Bolt frames and SOFA Hessian, just enough to script a server or a client."""

import struct
import zlib

SOFA_RESPONSE = "com.alipay.sofa.rpc.core.response.SofaResponse"
SERVER_EXCEPTION = "com.alipay.remoting.rpc.exception.RpcServerException"
SOFA_EXCEPTION = "com.alipay.sofa.rpc.core.exception.SofaRpcException"


class Frame:
    """One frame, taken apart."""

    def __init__(self, proto, ver1, kind, command, id, codec, switch, extra, name, headers, content):
        self.proto, self.ver1, self.kind, self.command, self.id = proto, ver1, kind, command, id
        self.codec, self.switch, self.extra = codec, switch, extra  # extra: timeout or status
        self.name, self.headers, self.content = name, headers, content

    def __str__(self):
        version = "v1" if self.proto == 1 else f"v2/{self.ver1}{'+crc' if self.switch & 1 else ''}"
        kind = {0: "response", 1: "request", 2: "one-way"}.get(self.kind, self.kind)
        extra = f"{'status' if self.kind == 0 else 'timeout'}={self.extra}"
        return (f"{version} {kind} cmd={self.command} id={self.id} codec={self.codec} {extra} "
                f"class={len(self.name)} headers={len(self.headers)} content={len(self.content)}")

    def encode(self):
        out = bytes([self.proto]) + (bytes([self.ver1]) if self.proto == 2 else b"")
        out += struct.pack(">BHBIB", self.kind, self.command, 1, self.id, self.codec)
        out += bytes([self.switch]) if self.proto == 2 else b""
        out += struct.pack(">H" if self.kind == 0 else ">i", self.extra)
        out += struct.pack(">HHI", len(self.name), len(self.headers), len(self.content))
        out += self.name + self.headers + self.content
        if self.proto == 2 and self.ver1 == 2 and self.switch & 1:
            out += struct.pack(">I", zlib.crc32(out))
        return out


def read(stream):
    """The next frame of a binary file object, or None at its end."""
    first = stream.read(1)
    if not first:
        return None
    proto, ver1, switch = first[0], 1, 0
    if proto == 2:
        ver1 = stream.read(1)[0]
    kind, command, _ver2, id, codec = struct.unpack(">BHBIB", stream.read(9))
    if proto == 2:
        switch = stream.read(1)[0]
    extra = struct.unpack(">H", stream.read(2))[0] if kind == 0 else struct.unpack(">i", stream.read(4))[0]
    name, headers, content = struct.unpack(">HHI", stream.read(8))
    frame = Frame(proto, ver1, kind, command, id, codec, switch, extra,
                  stream.read(name), stream.read(headers), stream.read(content))
    if proto == 2 and ver1 == 2 and switch & 1:
        stream.read(4)
    return frame


def response(request, status, name="", content=b"", headers=None, codec=None):
    return Frame(request.proto, request.ver1, 0, 0 if request.command == 0 else 2, request.id,
                 request.codec if codec is None else codec, request.switch, status,
                 name.encode(), header_map(headers or {}), content)


def heartbeat(id, proto=1, ver1=1, switch=0, headers=None, name="", content=b""):
    return Frame(proto, ver1, 1, 0, id, 1, switch, 3000, name.encode(), header_map(headers or {}), content)


def command(code, id, kind, proto=1):
    return Frame(proto, 1, kind, code, id, 1, 0, 0, b"", b"", b"")


def header_map(pairs):
    out = b""
    for key, value in pairs.items():
        for text in (key.encode(), value.encode()):
            out += struct.pack(">I", len(text)) + text
    return out


def hessian_string(text):
    """A string of the basic plane."""
    data = text.encode()
    return (bytes([len(text)]) if len(text) < 32 else b"S" + struct.pack(">H", len(text))) + data


def hessian_int(n):
    return bytes([n + 0x90]) if -16 <= n <= 47 else struct.pack(">H", 0xC800 + n) if -2048 <= n < 2048 else (
        b"I" + struct.pack(">i", n))


def hessian_class(name, fields):
    return b"O" + hessian_int(len(name)) + name.encode() + hessian_int(len(fields)) + b"".join(
        hessian_string(field) for field in fields)


def server_exception(message):
    return hessian_class(SERVER_EXCEPTION, ["detailMessage"]) + b"o\x90" + hessian_string(message)


# An empty StackTraceElement[]: Node takes an object for an exception only when it has a stackTrace, and Java
# must not get null for one.
NO_STACK = b"Vt" + struct.pack(">H", 28) + b"[java.lang.StackTraceElement" + b"l" + bytes(4) + b"z"


def server_exception_with_stack(message):
    return (hessian_class(SERVER_EXCEPTION, ["detailMessage", "stackTrace"]) + b"o\x90"
            + hessian_string(message) + NO_STACK)


def sofa_response_with_stack(message):
    return (hessian_class(SOFA_RESPONSE, ["isError", "errorMsg", "appResponse", "responseProps"]) + b"o\x90FN"
            + hessian_class(SOFA_EXCEPTION, ["detailMessage", "stackTrace", "errorType"]) + b"o\x91"
            + hessian_string(message) + NO_STACK + hessian_int(250) + b"N")


def sofa_response(message):
    """A SofaResponse whose appResponse is a SofaRpcException."""
    return (hessian_class(SOFA_RESPONSE, ["isError", "errorMsg", "appResponse", "responseProps"]) + b"o\x90FN"
            + hessian_class(SOFA_EXCEPTION, ["detailMessage", "errorType"]) + b"o\x91"
            + hessian_string(message) + hessian_int(250) + b"N")


def sofa_error(message):
    """A SofaResponse that is an error with a message, as a Java server answers for a missing method."""
    return (hessian_class(SOFA_RESPONSE, ["isError", "errorMsg", "appResponse", "responseProps"]) + b"o\x90T"
            + hessian_string(message) + b"NN")
