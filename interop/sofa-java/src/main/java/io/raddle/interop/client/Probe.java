package io.raddle.interop.client;

import com.alipay.remoting.InvokeCallback;
import com.alipay.remoting.rpc.RpcClient;
import com.alipay.sofa.rpc.api.future.SofaResponseFuture;
import com.alipay.sofa.rpc.common.RpcConstants;
import io.raddle.interop.api.RawRequest;
import io.raddle.interop.api.ShopService;
import io.raddle.interop.proto.EchoRequest;
import io.raddle.interop.proto.ShopProtoService;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/**
 * Asks a scripted server things and prints what the client makes of the answers (see {@code probe/}).
 *
 * <p>Usage: {@code Probe ADDRESS COMMAND...}. A command is {@code KIND:TEXT}: one call that carries the text, by
 * which the server knows what to answer; or {@code wait:MILLIS}.
 */
public final class Probe {
    private static final int TIMEOUT_MS = 2000;

    private final String address;
    private final Peers peers;
    private final ShopService shop;
    private final ShopProtoService protoShop;
    private final RpcClient raw = new RpcClient();

    private Probe(String address) {
        this.address = address;
        this.peers = new Peers(address);
        this.shop = peers.config(ShopService.class, RpcConstants.INVOKER_TYPE_SYNC).setTimeout(TIMEOUT_MS).refer();
        this.protoShop = peers
                .config(ShopProtoService.class, RpcConstants.INVOKER_TYPE_SYNC)
                .setSerialization("protobuf")
                .setTimeout(TIMEOUT_MS)
                .refer();
        raw.startup();
    }

    public static void main(String[] args) throws Exception {
        Probe probe = new Probe(args[0]);
        for (int i = 1; i < args.length; i++) {
            String kind = args[i].substring(0, args[i].indexOf(':'));
            String text = args[i].substring(kind.length() + 1);
            if (kind.equals("wait")) {
                Thread.sleep(Long.parseLong(text));
                continue;
            }
            long start = System.nanoTime();
            String outcome = outcome(() -> probe.call(kind, text));
            System.out.printf("%s | %d ms | %s%n", args[i], (System.nanoTime() - start) / 1_000_000, outcome);
        }
        System.exit(0);
    }

    private static String outcome(Callable<Object> call) {
        try {
            return "ok " + Outcomes.show(call.call());
        } catch (Throwable e) {
            return Outcomes.show(e);
        }
    }

    private Object call(String kind, String text) throws Exception {
        switch (kind) {
            case "sync":
                return shop.echo(text);
            case "future":
                peers.config(ShopService.class, RpcConstants.INVOKER_TYPE_FUTURE)
                        .setTimeout(TIMEOUT_MS)
                        .refer()
                        .echo(text);
                return SofaResponseFuture.getResponse(2L * TIMEOUT_MS, true);
            case "callback":
                Peers.Answer answer = new Peers.Answer();
                peers.config(ShopService.class, RpcConstants.INVOKER_TYPE_CALLBACK)
                        .setOnReturn(answer)
                        .setTimeout(TIMEOUT_MS)
                        .refer()
                        .echo(text);
                return answer.value.get(2L * TIMEOUT_MS, TimeUnit.MILLISECONDS);
            case "protobuf":
                return protoShop.echo(EchoRequest.newBuilder().setText(text).build());
            case "raw":
                return raw.invokeSync(address, new RawRequest("echo", text, 0), TIMEOUT_MS);
            case "rawv2":
                return raw.invokeSync(
                        address + "?_PROTOCOL=2&_VERSION=2", new RawRequest("echo", text, 0), TIMEOUT_MS);
            case "rawcallback":
                return rawCallback(text);
            default:
                throw new IllegalArgumentException("no such kind: " + kind);
        }
    }

    private Object rawCallback(String text) throws Exception {
        CompletableFuture<Object> answer = new CompletableFuture<>();
        raw.invokeWithCallback(address, new RawRequest("echo", text, 0), new InvokeCallback() {
            @Override
            public void onResponse(Object result) {
                answer.complete(result);
            }

            @Override
            public void onException(Throwable e) {
                answer.completeExceptionally(e);
            }

            @Override
            public Executor getExecutor() {
                return null;
            }
        }, TIMEOUT_MS);
        return answer.get(2L * TIMEOUT_MS, TimeUnit.MILLISECONDS);
    }
}
