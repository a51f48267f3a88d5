package io.raddle.interop.client;

import com.alipay.sofa.rpc.api.future.SofaResponseFuture;
import com.alipay.sofa.rpc.common.RpcConstants;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import io.raddle.interop.proto.ShopProtoService;
import io.raddle.interop.proto.EchoRequest;
import io.raddle.interop.proto.PlusRequest;
import java.util.concurrent.TimeUnit;

/** SOFARPC with protobuf: the method is named in the header map. */
final class ProtobufCases {
    private final Outcomes out;
    private final Peers peers;

    ProtobufCases(Outcomes out, Peers peers) {
        this.out = out;
        this.peers = peers;
    }

    void run() {
        ShopProtoService shop = config(RpcConstants.INVOKER_TYPE_SYNC).refer();
        EchoRequest request = EchoRequest.newBuilder()
                .setText(HessianCases.TEXT)
                .addTags("a")
                .addTags("中")
                .putCounts("k", -5)
                .build();
        out.run("protobuf.plus", () -> shop.plus(PlusRequest.newBuilder().setA(2).setB(40).build()));
        out.run("protobuf.echo", () -> shop.echo(request));
        out.run("protobuf.echo empty", () -> shop.echo(EchoRequest.getDefaultInstance()));
        out.run("protobuf.echo 1 MiB", () -> shop.echo(
                EchoRequest.newBuilder().setText("0123456789abcdef".repeat(1 << 16)).build()));
        out.run("protobuf.future", () -> {
            config(RpcConstants.INVOKER_TYPE_FUTURE).refer().echo(request);
            return SofaResponseFuture.getResponse(Peers.TIMEOUT_MS, true);
        });
        out.run("protobuf.callback", () -> {
            Peers.Answer answer = new Peers.Answer();
            config(RpcConstants.INVOKER_TYPE_CALLBACK).setOnReturn(answer).refer().echo(request);
            return answer.value.get(5, TimeUnit.SECONDS);
        });
        out.run("protobuf.server throws", () -> shop.boom(request));
        out.run("protobuf-timeout.sync", () -> config(RpcConstants.INVOKER_TYPE_SYNC)
                .setTimeout(300)
                .refer()
                .slow(PlusRequest.newBuilder().setA(1500).build()));
        out.run("protobuf-timeout.connection still serves", () -> shop.echo(request));
    }

    private ConsumerConfig<ShopProtoService> config(String invokeType) {
        return peers.config(ShopProtoService.class, invokeType).setSerialization("protobuf");
    }
}
