package io.raddle.interop.dubbo.server;

import io.raddle.interop.dubbo.proto.EchoReply;
import io.raddle.interop.dubbo.proto.EchoRequest;
import io.raddle.interop.dubbo.proto.ShopProtoService;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.apache.dubbo.common.stream.StreamObserver;
import org.apache.dubbo.rpc.StatusRpcException;
import org.apache.dubbo.rpc.TriRpcStatus;

/** The protobuf service. */
final class ShopProtoServiceImpl implements ShopProtoService {
    @Override
    public EchoReply echo(EchoRequest request) {
        if (request.getNumber() > 0) {
            Counters.pause(request.getNumber());
        }
        return reply(request, request.getNumber());
    }

    @Override
    public EchoReply boom(EchoRequest request) {
        throw new IllegalStateException("boom: " + request.getText());
    }

    @Override
    public EchoReply refuse(EchoRequest request) {
        TriRpcStatus.Code code = TriRpcStatus.Code.fromCode(request.getNumber());
        throw new StatusRpcException(TriRpcStatus.fromCode(code).withDescription("refused: " + request.getText()));
    }

    @Override
    public void serverStream(EchoRequest request, StreamObserver<EchoReply> replies) {
        for (int i = 0; i < request.getNumber(); i++) {
            replies.onNext(reply(request, i));
        }
        if (request.getText().equals("boom")) {
            replies.onError(new IllegalStateException("stream boom"));
        } else {
            replies.onCompleted();
        }
    }

    @Override
    public StreamObserver<EchoRequest> clientStream(StreamObserver<EchoReply> reply) {
        List<String> texts = new ArrayList<>();
        return observer(request -> texts.add(request.getText()), reply, () -> reply.onNext(EchoReply.newBuilder()
                .setText(String.join("+", texts))
                .setNumber(texts.size())
                .build()));
    }

    @Override
    public StreamObserver<EchoRequest> biStream(StreamObserver<EchoReply> replies) {
        return observer(
                request -> {
                    if (request.getText().equals("boom")) {
                        replies.onError(new IllegalStateException("stream boom"));
                    } else {
                        replies.onNext(reply(request, request.getNumber()));
                    }
                },
                replies,
                () -> {});
    }

    private static StreamObserver<EchoRequest> observer(
            Consumer<EchoRequest> each, StreamObserver<EchoReply> replies, Runnable last) {
        return new StreamObserver<>() {
            @Override
            public void onNext(EchoRequest request) {
                each.accept(request);
            }

            @Override
            public void onError(Throwable error) {
                // The caller went away: nobody is left to answer.
            }

            @Override
            public void onCompleted() {
                last.run();
                replies.onCompleted();
            }
        };
    }

    private static EchoReply reply(EchoRequest request, int number) {
        return EchoReply.newBuilder()
                .setText(request.getText())
                .addAllTags(request.getTagsList())
                .putAllCounts(request.getCountsMap())
                .setNumber(number)
                .setData(request.getData())
                .build();
    }
}
