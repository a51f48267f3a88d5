package io.raddle.interop.proto;

/**
 * The protobuf service every peer publishes; the interface of {@code lib/shop.proto}.
 *
 * <p>Its full name must be the one in the proto file: Node finds the methods by it.
 */
public interface ShopProtoService {
    /** The fields back. */
    EchoReply echo(EchoRequest request);

    /** Sum. */
    PlusReply plus(PlusRequest request);

    /** Throws an unchecked exception carrying the text. */
    EchoReply boom(EchoRequest request);

    /** Answers after {@code a} milliseconds. */
    EchoReply slow(PlusRequest request);
}
