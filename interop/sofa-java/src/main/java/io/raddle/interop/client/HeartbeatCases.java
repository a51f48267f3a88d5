package io.raddle.interop.client;

import com.alipay.remoting.Connection;
import com.alipay.remoting.ConnectionEventType;
import com.alipay.remoting.rpc.RpcClient;
import io.raddle.interop.api.RawRequest;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Idle connections: SOFABolt heartbeats them and closes after three misses.
 *
 * <p>Needs {@code -Dbolt.tcp.heartbeat.interval} small (the runner sets 200 ms; the default is 15 s): then an
 * unanswered heartbeat closes the connection well within the watch.
 */
final class HeartbeatCases {
    private static final long WATCH_MS = 3000;

    private final Outcomes out;
    private final String address;

    HeartbeatCases(Outcomes out, String address) {
        this.out = out;
        this.address = address;
    }

    void run() {
        watch("heartbeat.v1 connection outlives 3 s of idleness", "_PROTOCOL=1");
        watch("heartbeat.v2 connection outlives 3 s of idleness", "_PROTOCOL=2&_VERSION=1");
        watch("heartbeat.v2 crc connection outlives 3 s of idleness", "_PROTOCOL=2&_VERSION=2");
    }

    private void watch(String name, String query) {
        out.run(name, () -> {
            RpcClient client = new RpcClient();
            AtomicInteger closed = new AtomicInteger();
            client.addConnectionEventProcessor(
                    ConnectionEventType.CLOSE, (remote, connection) -> closed.incrementAndGet());
            client.startup();
            try {
                return idle(client, address + "?" + query, closed);
            } finally {
                client.shutdown();
            }
        });
    }

    private static String idle(RpcClient client, String url, AtomicInteger closed) throws Exception {
        client.invokeSync(url, new RawRequest("echo", "before", 0), 5000);
        Connection connection = client.getConnection(url, 3000);
        int missesSeen = 0;
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(WATCH_MS);
        while (System.nanoTime() < deadline && closed.get() == 0) {
            Integer misses = connection.getChannel().attr(Connection.HEARTBEAT_COUNT).get();
            missesSeen = Math.max(missesSeen, misses == null ? 0 : misses);
            Thread.sleep(20);
        }
        Object after = client.invokeSync(url, new RawRequest("echo", "after", 0), 5000);
        return after + ", closed " + closed.get() + ", misses counted " + missesSeen;
    }
}
