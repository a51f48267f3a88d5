package io.raddle.interop.client;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.raddle.interop.api.ShopService;
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
import java.util.concurrent.locks.LockSupport;
import sun.misc.Signal;

/**
 * Steady calls while the runner disturbs the mesh: every answer is checked against its own question.
 *
 * <p>Usage: {@code Load ADDRESS THREADS SECONDS [PER_SECOND]} (see {@link Peers}); prints {@code STARTED} after the first good
 * answer and one JSON object at the end, which SIGUSR2 brings sooner. Without a rate each thread calls again at once.
 */
public final class Load {
    private final ShopService shop;
    private final AtomicLong sent = new AtomicLong();
    private final AtomicLong right = new AtomicLong();
    private final AtomicLong wrong = new AtomicLong();
    private final AtomicLong slowestNanos = new AtomicLong();
    private final AtomicLong slowestFailureNanos = new AtomicLong();
    private final Map<String, AtomicLong> failures = new ConcurrentHashMap<>();
    /** When each failure was told, Unix milliseconds: the runner holds them against what it did. */
    private final Queue<Long> failedAt = new ConcurrentLinkedQueue<>();

    /** Between two calls of a thread; 0 = none. */
    private final long pauseNanos;
    private volatile boolean stopped;

    private Load(ShopService shop, long pauseNanos) {
        this.shop = shop;
        this.pauseNanos = pauseNanos;
    }

    public static void main(String[] args) throws Exception {
        int threads = Integer.parseInt(args[1]);
        int seconds = Integer.parseInt(args[2]);
        long pauseNanos = args.length > 3 ? threads * 1_000_000_000L / Integer.parseInt(args[3]) : 0;
        Load load = new Load(new Peers(args[0]).sync(ShopService.class), pauseNanos);
        load.warm();
        // Not SIGTERM: SOFARPC destroys its clients then, with calls in flight.
        Signal.handle(new Signal("USR2"), signal -> load.stopped = true);
        System.out.println("STARTED");
        load.run(threads, seconds);
        System.out.println(new ObjectMapper().writeValueAsString(load.summary()));
        System.exit(0);
    }

    /** The mesh's registry client subscribes in the background: the first calls may come before it is done. */
    private void warm() throws InterruptedException {
        long patience = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (true) {
            try {
                shop.echo("warm");
                return;
            } catch (RuntimeException e) {
                if (System.nanoTime() > patience) {
                    throw e;
                }
                Thread.sleep(50);
            }
        }
    }

    private void run(int threads, int seconds) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        List<Thread> running = new ArrayList<>();
        for (int t = 0; t < threads; t++) {
            String name = "t" + t + "-";
            Thread thread = new Thread(() -> callUntil(end, name), "load-" + t);
            thread.start();
            running.add(thread);
        }
        for (Thread thread : running) {
            // Longer than any call may last: a thread still alive after this is a hung call.
            thread.join(TimeUnit.SECONDS.toMillis(stopped ? 15L : seconds + 15L));
        }
    }

    private void callUntil(long end, String name) {
        long due = System.nanoTime();
        for (long i = 0; System.nanoTime() < end && !stopped; i++) {
            if (pauseNanos > 0) {
                due += pauseNanos;
                LockSupport.parkNanos(due - System.nanoTime());
            }
            String text = name + i + "-" + "x".repeat((int) (i % 200));
            sent.incrementAndGet();
            long start = System.nanoTime();
            try {
                String answer = shop.echo(text);
                (text.equals(answer) ? right : wrong).incrementAndGet();
                max(slowestNanos, System.nanoTime() - start);
            } catch (Throwable e) {
                max(slowestFailureNanos, System.nanoTime() - start);
                failedAt.add(System.currentTimeMillis());
                failures.computeIfAbsent(Outcomes.show(e), k -> new AtomicLong()).incrementAndGet();
            }
        }
    }

    private static void max(AtomicLong most, long value) {
        most.accumulateAndGet(value, Math::max);
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
        summary.put("max_failed_ms", slowestFailureNanos.get() / 1e6);
        summary.put("failed_at_ms", new ArrayList<>(failedAt));
        summary.put("failures", new TreeMap<>(failures));
        return summary;
    }
}
