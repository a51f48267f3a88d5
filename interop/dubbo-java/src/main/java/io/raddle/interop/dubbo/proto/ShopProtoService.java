package io.raddle.interop.dubbo.proto;

import org.apache.dubbo.common.stream.StreamObserver;

/** The service with protobuf messages: Dubbo sends them bare, as gRPC does. */
public interface ShopProtoService {
    /** The fields back; waits {@code number} milliseconds. */
    EchoReply echo(EchoRequest request);

    /** Throws an unchecked exception carrying the text. */
    EchoReply boom(EchoRequest request);

    /** Throws an RpcException whose status is {@code number}. */
    EchoReply refuse(EchoRequest request);

    /** {@code number} answers, numbered; one with text {@code boom} fails after as many. */
    void serverStream(EchoRequest request, StreamObserver<EchoReply> replies);

    /** One answer once the caller is done: the texts joined, and their count. */
    StreamObserver<EchoRequest> clientStream(StreamObserver<EchoReply> reply);

    /** An answer to each; ends when the caller does; text {@code boom} fails. */
    StreamObserver<EchoRequest> biStream(StreamObserver<EchoReply> replies);
}
