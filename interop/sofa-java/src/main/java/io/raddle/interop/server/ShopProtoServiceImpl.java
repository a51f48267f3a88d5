package io.raddle.interop.server;

import io.raddle.interop.proto.ShopProtoService;
import io.raddle.interop.proto.EchoReply;
import io.raddle.interop.proto.EchoRequest;
import io.raddle.interop.proto.PlusReply;
import io.raddle.interop.proto.PlusRequest;

/** The protobuf service. */
final class ShopProtoServiceImpl implements ShopProtoService {
    @Override
    public EchoReply echo(EchoRequest request) {
        return EchoReply.newBuilder()
                .setText(request.getText())
                .addAllTags(request.getTagsList())
                .putAllCounts(request.getCountsMap())
                .build();
    }

    @Override
    public PlusReply plus(PlusRequest request) {
        return PlusReply.newBuilder().setSum(request.getA() + request.getB()).build();
    }

    @Override
    public EchoReply boom(EchoRequest request) {
        throw new IllegalStateException("boom: " + request.getText());
    }

    @Override
    public EchoReply slow(PlusRequest request) {
        Counters.pause(request.getA());
        return EchoReply.newBuilder().setText("slept " + request.getA()).build();
    }
}
