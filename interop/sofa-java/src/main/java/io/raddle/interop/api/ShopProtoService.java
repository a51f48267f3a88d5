package io.raddle.interop.api;

import io.raddle.interop.proto.EchoReply;
import io.raddle.interop.proto.EchoRequest;
import io.raddle.interop.proto.PlusReply;
import io.raddle.interop.proto.PlusRequest;

/** The protobuf service every peer publishes; the interface of {@code lib/shop.proto}. */
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
