package io.raddle.interop.dubbo.client;

import io.raddle.interop.dubbo.api.Order;
import io.raddle.interop.dubbo.api.ShopService;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.service.GenericService;

/** Every kind of call: asynchronous, one-way, generic, with attachments, in a group, interleaved. */
final class KindCases {
    private final Outcomes out;
    private final String group;
    private final References references;
    private final ShopService shop;

    KindCases(Outcomes out, String name, References references) {
        this.out = out;
        this.group = name + "-kind.";
        this.references = references;
        this.shop = references.of(ShopService.class);
    }

    void run() {
        asynchronous();
        oneWay();
        generic();
        attachments();
        out.run(group + "group reaches the other instance", () -> {
            ReferenceConfig<ShopService> second = references.config(ShopService.class);
            second.setGroup("second");
            return second.get().whoami();
        });
        out.run(group + "many threads, one connection", () -> interleaved(8, 200));
    }

    private void asynchronous() {
        out.run(group + "future", () -> shop.later(ValueCases.TEXT, 20).get(5, TimeUnit.SECONDS));
        out.run(group + "future that fails", () -> shop.boomLater("x").get(5, TimeUnit.SECONDS));
        out.run(group + "futures answer out of order", () -> {
            CompletableFuture<String> slow = shop.later("slow", 400);
            String quick = shop.later("quick", 1).get(5, TimeUnit.SECONDS);
            boolean overtook = !slow.isDone();
            return quick + ", overtook " + overtook + ", then " + slow.get(5, TimeUnit.SECONDS);
        });
        out.run(group + "async of a plain method", () -> {
            CompletableFuture<String> answer =
                    RpcContext.getServiceContext().asyncCall((Callable<String>) () -> shop.echo("plain"));
            return answer.get(5, TimeUnit.SECONDS);
        });
    }

    private void oneWay() {
        out.run(group + "void", () -> {
            String key = UUID.randomUUID().toString();
            shop.count(key);
            return shop.counted(key);
        });
        for (boolean sent : new boolean[] {false, true}) {
            out.run(group + "one-way" + (sent ? ", sent" : ""), () -> {
                ReferenceConfig<ShopService> reference = references.config(ShopService.class);
                MethodConfig count = new MethodConfig();
                count.setName("count");
                count.setReturn(false);
                count.setSent(sent);
                reference.setMethods(List.of(count));
                ShopService oneWay = reference.get();
                String key = UUID.randomUUID().toString();
                for (int i = 0; i < 20; i++) {
                    oneWay.count(key);
                }
                return await(20, () -> shop.counted(key));
            });
        }
        out.run(group + "two-way after one-way", () -> shop.plus(20, 22));
    }

    private void generic() {
        out.run(group + "generic", () -> genericShop().$invoke(
                "echo", new String[] {"java.lang.String"}, new Object[] {ValueCases.TEXT}));
        out.run(group + "generic, primitives", () ->
                genericShop().$invoke("plus", new String[] {"int", "int"}, new Object[] {20, 22}));
        out.run(group + "generic, an object as a map", () -> {
            Map<String, Object> order = new HashMap<>();
            order.put("class", Order.class.getName());
            order.put("id", 7L);
            order.put("buyer", "generic");
            order.put("state", "PAID");
            Map<?, ?> answer = (Map<?, ?>) genericShop()
                    .$invoke("echoOrder", new String[] {Order.class.getName()}, new Object[] {order});
            return answer.get("buyer") + " " + answer.get("id") + " " + answer.get("state");
        });
        out.run(group + "generic, async", () -> genericShop()
                .$invokeAsync("echo", new String[] {"java.lang.String"}, new Object[] {"async"})
                .get(5, TimeUnit.SECONDS));
        out.run(group + "generic, server throws", () ->
                genericShop().$invoke("boom", new String[] {"java.lang.String"}, new Object[] {"x"}));
        out.run(group + "generic, no such method", () ->
                genericShop().$invoke("nosuch", new String[] {"int"}, new Object[] {1}));
    }

    private GenericService genericShop() {
        return references.generic(ShopService.class.getName());
    }

    private void attachments() {
        out.run(group + "attachments both ways", () -> {
            RpcContext.getClientAttachment().setAttachment("tenant", "t-7");
            RpcContext.getClientAttachment().setAttachment("shadowtest", "T");
            // A header of HTTP/2 is ASCII; Triple says how other text travels.
            RpcContext.getClientAttachment().setAttachment("empty", "");
            Map<String, String> seen = shop.attachments(new ArrayList<>(List.of("tenant", "shadowtest", "empty")));
            return seen + ", back " + RpcContext.getServerContext().getObjectAttachment("from-server");
        });
        out.run(group + "attachment of 2 KiB", () -> {
            RpcContext.getClientAttachment().setAttachment("long", "v".repeat(2048));
            return shop.attachments(new ArrayList<>(List.of("long"))).get("long").length();
        });
        out.run(group + "attachment that is not ascii", () -> {
            RpcContext.getClientAttachment().setAttachment("name", "洛芙莱斯");
            return shop.attachments(new ArrayList<>(List.of("name")));
        });
        out.run(group + "attachments end with their call", () ->
                shop.attachments(new ArrayList<>(List.of("tenant", "long"))));
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
    private static int await(int wanted, Callable<Integer> value) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(3);
        int seen = value.call();
        while (seen < wanted && System.nanoTime() < deadline) {
            Thread.onSpinWait();
            seen = value.call();
        }
        return seen;
    }
}
