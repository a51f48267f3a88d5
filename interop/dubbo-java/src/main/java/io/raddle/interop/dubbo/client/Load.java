package io.raddle.interop.dubbo.client;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.raddle.interop.dubbo.api.Order;
import io.raddle.interop.dubbo.api.ShopService;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.UnaryOperator;

/**
 * Steady calls while the runner disturbs the mesh: every answer is checked against its own question.
 *
 * <p>Usage: {@code Load dubbo|tri ADDRESS THREADS SECONDS}. Half of the threads call {@code echo}, which rules may
 * declare idempotent; the other half call {@code echoItem}. Prints {@code STARTED} after the first good answers and
 * one JSON object at the end, with counts by kind.
 */
public final class Load {
    /** One of the two halves. */
    private static final class Half {
        private final AtomicLong sent = new AtomicLong();
        private final AtomicLong right = new AtomicLong();
        private final AtomicLong wrong = new AtomicLong();
        private final AtomicLong slowestNanos = new AtomicLong();
        private final Map<String, AtomicLong> failures = new ConcurrentHashMap<>();
        /** When each failure was told, Unix milliseconds: the runner holds them against what it did. */
        private final Queue<Long> failedAt = new ConcurrentLinkedQueue<>();
        private final UnaryOperator<String> echo;

        private Half(UnaryOperator<String> echo) {
            this.echo = echo;
        }

        private void callUntil(long end, String name) {
            for (long i = 0; System.nanoTime() < end; i++) {
                String text = name + i + "-" + "x".repeat((int) (i % 200));
                sent.incrementAndGet();
                long start = System.nanoTime();
                try {
                    String answer = echo.apply(text);
                    (text.equals(answer) ? right : wrong).incrementAndGet();
                } catch (Throwable e) {
                    failedAt.add(System.currentTimeMillis());
                    failures.computeIfAbsent(Outcomes.show(e), k -> new AtomicLong()).incrementAndGet();
                }
                slowestNanos.accumulateAndGet(System.nanoTime() - start, Math::max);
            }
        }

        private Map<String, Object> summary() {
            long failed = failures.values().stream().mapToLong(AtomicLong::get).sum();
            Map<String, Object> summary = new LinkedHashMap<>();
            summary.put("sent", sent.get());
            summary.put("ok", right.get());
            summary.put("wrong", wrong.get());
            summary.put("failed", failed);
            summary.put("hung", sent.get() - right.get() - wrong.get() - failed);
            summary.put("max_ms", slowestNanos.get() / 1e6);
            summary.put("failed_at_ms", new ArrayList<>(failedAt));
            summary.put("failures", new TreeMap<>(failures));
            return summary;
        }
    }

    private Load() {}

    public static void main(String[] args) throws Exception {
        References.start();
        References references = new References(args[0], args[1]);
        int threads = Integer.parseInt(args[2]);
        int seconds = Integer.parseInt(args[3]);
        ShopService shop = references.of(ShopService.class);
        Map<String, Half> halves = new LinkedHashMap<>();
        halves.put("idempotent", new Half(shop::echo));
        halves.put("other", new Half(text -> shop.echoItem(new Order.Item(text, 1)).getSku()));
        for (Half half : halves.values()) {
            half.echo.apply("warm");
        }
        System.out.println("STARTED");
        run(new ArrayList<>(halves.values()), threads, seconds);
        Map<String, Object> summary = new LinkedHashMap<>();
        halves.forEach((name, half) -> summary.put(name, half.summary()));
        System.out.println(new ObjectMapper().writeValueAsString(summary));
        System.exit(0);
    }

    private static void run(List<Half> halves, int threads, int seconds) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        List<Thread> running = new ArrayList<>();
        for (int t = 0; t < threads; t++) {
            Half half = halves.get(t % halves.size());
            String name = "t" + t + "-";
            Thread thread = new Thread(() -> half.callUntil(end, name), "load-" + t);
            thread.setDaemon(true);
            thread.start();
            running.add(thread);
        }
        // Longer than any call may last: a thread still alive after this is a hung call.
        long patience = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds + 10L);
        for (Thread thread : running) {
            thread.join(Math.max(1, TimeUnit.NANOSECONDS.toMillis(patience - System.nanoTime())));
        }
    }
}
