package io.raddle.interop.dubbo.server;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

/** What one-way calls leave behind, so that a test can see them arrive. */
final class Counters {
    private final ConcurrentHashMap<String, AtomicInteger> byKey = new ConcurrentHashMap<>();

    int add(String key) {
        return byKey.computeIfAbsent(key, k -> new AtomicInteger()).incrementAndGet();
    }

    int of(String key) {
        AtomicInteger counter = byKey.get(key);
        return counter == null ? 0 : counter.get();
    }

    static void pause(int millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
