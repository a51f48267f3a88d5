package io.raddle.interop.client;

import com.alipay.sofa.rpc.api.future.SofaResponseFuture;
import com.alipay.sofa.rpc.common.RpcConstants;
import io.raddle.interop.api.MissingService;
import io.raddle.interop.api.ShopService;
import io.raddle.interop.api.User;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/** SOFARPC with Hessian: every kind of value, call and failure. */
final class HessianCases {
    static final String TEXT = "héllo 中文 😀 \u0000 end";

    private final Outcomes out;
    private final Peers peers;
    private final ShopService shop;

    HessianCases(Outcomes out, Peers peers) {
        this.out = out;
        this.peers = peers;
        this.shop = peers.sync(ShopService.class);
    }

    void run(boolean javaPeer) {
        values();
        kinds();
        failures(javaPeer);
        out.run("hessian-order.many threads, one connection", () -> interleaved(8, 250));
    }

    private void values() {
        out.run("hessian-value.plus", () -> shop.plus(1, 2));
        out.run("hessian-value.plus negative", () -> shop.plus(Integer.MIN_VALUE, 7));
        out.run("hessian-value.echo", () -> shop.echo(TEXT));
        out.run("hessian-value.echo empty", () -> shop.echo(""));
        out.run("hessian-value.echo null", () -> shop.echo(null));
        out.run("hessian-value.echo 40 KiB", () -> shop.echo("中x".repeat(10 << 10)));
        out.run("hessian-value.echo 1 MiB", () -> shop.echo("0123456789abcdef".repeat(1 << 16)));
        out.run("hessian-value.bytes 0", () -> shop.echoBytes(new byte[0]));
        out.run("hessian-value.bytes 3 MiB", () -> shop.echoBytes(pattern(3 << 20)));
        out.run("hessian-value.user", () -> shop.echoUser(User.sample()));
        out.run("hessian-value.user null", () -> shop.echoUser(null));
        out.run("hessian-value.map of lists", () -> {
            Map<String, List<Integer>> map = new LinkedHashMap<>();
            map.put("a", new ArrayList<>(List.of(1, -1, 70_000)));
            map.put("空", new ArrayList<>());
            return shop.echoMap(map);
        });
    }

    private void kinds() {
        out.run("hessian-kind.future", () -> {
            peers.future(ShopService.class).echo(TEXT);
            return SofaResponseFuture.getResponse(Peers.TIMEOUT_MS, true);
        });
        out.run("hessian-kind.future answers out of order", () -> {
            ShopService future = peers.future(ShopService.class);
            future.slow(400);
            Future<?> slow = SofaResponseFuture.getFuture(true);
            future.echo("quick");
            Object quick = SofaResponseFuture.getFuture(true).get(5, TimeUnit.SECONDS);
            boolean overtook = !slow.isDone();
            return quick + ", overtook " + overtook + ", then " + slow.get(5, TimeUnit.SECONDS);
        });
        out.run("hessian-kind.callback", () -> {
            Peers.Answer answer = new Peers.Answer();
            peers.callback(ShopService.class, answer).echo(TEXT);
            return answer.value.get(5, TimeUnit.SECONDS);
        });
        out.run("hessian-kind.callback of a throwing method", () -> {
            Peers.Answer answer = new Peers.Answer();
            peers.callback(ShopService.class, answer).boom("callback");
            return answer.value.get(5, TimeUnit.SECONDS);
        });
        out.run("hessian-kind.void", () -> {
            String key = UUID.randomUUID().toString();
            shop.count(key);
            return shop.counted(key);
        });
        out.run("hessian-kind.one-way", () -> {
            String key = UUID.randomUUID().toString();
            ShopService oneway = peers.oneway(ShopService.class);
            for (int i = 0; i < 20; i++) {
                oneway.count(key);
            }
            return await(20, () -> shop.counted(key));
        });
        out.run("hessian-kind.sync after one-way", () -> shop.plus(20, 22));
    }

    private void failures(boolean javaPeer) {
        out.run("hessian-failure.server throws", () -> shop.boom(TEXT));
        if (javaPeer) {
            out.run("hessian-failure.server throws a declared exception", () -> shop.boomChecked("x"));
            out.run("hessian-failure.unique id reaches the other instance", () -> peers
                    .config(ShopService.class, RpcConstants.INVOKER_TYPE_SYNC)
                    .setUniqueId("second")
                    .refer()
                    .whoami());
        }
        out.run("hessian-timeout.sync", () -> impatient(RpcConstants.INVOKER_TYPE_SYNC).slow(1500));
        out.run("hessian-timeout.future", () -> {
            impatient(RpcConstants.INVOKER_TYPE_FUTURE).slow(1500);
            return SofaResponseFuture.getResponse(5000, true);
        });
        out.run("hessian-timeout.connection still serves", () -> shop.plus(3, 4));
        out.run("hessian-missing.service", () -> peers.sync(MissingService.class).echo("x"));
        out.run("hessian-missing.connection still serves", () -> shop.plus(5, 6));
    }

    private ShopService impatient(String kind) {
        return peers.config(ShopService.class, kind).setTimeout(300).refer();
    }

    private Object interleaved(int threads, int calls) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        try {
            List<Future<Integer>> right = new ArrayList<>();
            for (int t = 0; t < threads; t++) {
                String name = "thread " + t;
                right.add(pool.submit(() -> echoes(name, calls)));
            }
            int sum = 0;
            for (Future<Integer> one : right) {
                sum += one.get(30, TimeUnit.SECONDS);
            }
            return sum + " right answers";
        } finally {
            pool.shutdownNow();
        }
    }

    private int echoes(String name, int calls) {
        int right = 0;
        for (int i = 0; i < calls; i++) {
            String text = name + " call " + i + " " + "x".repeat(i * 7 % 3000);
            if (text.equals(shop.echo(text))) {
                right++;
            }
        }
        return right;
    }

    /** Polls until the value is reached, for at most 3 s; the last value seen. */
    static int await(int wanted, Callable<Integer> value) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(3);
        int seen = value.call();
        while (seen < wanted && System.nanoTime() < deadline) {
            Thread.onSpinWait();
            seen = value.call();
        }
        return seen;
    }

    static byte[] pattern(int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) (i * 31 + (i >> 8));
        }
        return bytes;
    }
}
