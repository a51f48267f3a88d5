package io.raddle.interop.client;

import com.alipay.remoting.InvokeCallback;
import com.alipay.remoting.InvokeContext;
import com.alipay.remoting.rpc.RpcClient;
import io.raddle.interop.api.RawRequest;
import io.raddle.interop.api.RawUnknown;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/** Bare SOFABolt, which names no service, in each version of the protocol. */
final class RawBoltCases {
    /** A version of the protocol as SOFABolt's address asks for it. */
    enum Version {
        V1("_PROTOCOL=1", false),
        V2("_PROTOCOL=2&_VERSION=1", false),
        V2_CRC("_PROTOCOL=2&_VERSION=2", true),
        V2_CRC_OFF("_PROTOCOL=2&_VERSION=2", false);

        private final String query;
        private final boolean crc;

        Version(String query, boolean crc) {
            this.query = query;
            this.crc = crc;
        }
    }

    private final Outcomes out;
    private final Version version;
    private final String url;
    private final RpcClient client;
    private final String group;

    RawBoltCases(Outcomes out, String address, Version version, RpcClient client) {
        this.out = out;
        this.version = version;
        this.url = address + "?" + version.query;
        this.client = client;
        this.group = "raw-" + version.name().toLowerCase().replace('_', '-') + ".";
    }

    void run() {
        out.run(group + "sync", () -> call(new RawRequest("echo", HessianCases.TEXT, 0), 5000));
        out.run(group + "sync null", () -> call(new RawRequest("echo", null, 0), 5000));
        out.run(group + "sync 1 MiB", () -> call(
                new RawRequest("echo", "0123456789abcdef".repeat(1 << 16), 0), 5000));
        out.run(group + "future", () -> client
                .invokeWithFuture(url, new RawRequest("echo", "future", 0), context(), 5000)
                .get());
        out.run(group + "callback", () -> callback(new RawRequest("echo", "callback", 0)));
        out.run(group + "one-way", () -> {
            String key = UUID.randomUUID().toString();
            for (int i = 0; i < 20; i++) {
                client.oneway(url, new RawRequest("count", key, 0), context());
            }
            return HessianCases.await(20, () -> (Integer) call(new RawRequest("counted", key, 0), 5000));
        });
        out.run(group + "server throws", () -> call(new RawRequest("boom", "中", 0), 5000));
        out.run(group + "no processor", () -> call(new RawUnknown(), 5000));
        out.run(group + "timeout", () -> call(new RawRequest("slow", "", 1500), 300));
        out.run(group + "connection still serves", () -> call(new RawRequest("echo", "still", 0), 5000));
    }

    private Object call(Object request, int timeout) throws Exception {
        return client.invokeSync(url, request, context(), timeout);
    }

    private Object callback(Object request) throws Exception {
        CompletableFuture<Object> answer = new CompletableFuture<>();
        client.invokeWithCallback(url, request, context(), new InvokeCallback() {
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
        }, 5000);
        return answer.get(6, TimeUnit.SECONDS);
    }

    private InvokeContext context() {
        InvokeContext context = new InvokeContext();
        context.put(InvokeContext.BOLT_CRC_SWITCH, version.crc);
        return context;
    }
}
