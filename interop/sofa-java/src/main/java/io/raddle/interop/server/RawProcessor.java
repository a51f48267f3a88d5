package io.raddle.interop.server;

import com.alipay.remoting.BizContext;
import com.alipay.remoting.rpc.protocol.SyncUserProcessor;
import io.raddle.interop.api.RawRequest;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Answers bare SOFABolt requests. */
final class RawProcessor extends SyncUserProcessor<RawRequest> {
    private final Counters counters = new Counters();
    private final ExecutorService pool = Executors.newFixedThreadPool(16, task -> {
        Thread thread = new Thread(task, "raw-bolt");
        thread.setDaemon(true);
        return thread;
    });

    @Override
    public Object handleRequest(BizContext context, RawRequest request) {
        switch (request.op) {
            case "echo":
                return request.text;
            case "boom":
                throw new IllegalStateException("raw boom: " + request.text);
            case "slow":
                Counters.pause(request.number);
                return "slept " + request.number;
            case "count":
                counters.add(request.text);
                return null;
            case "counted":
                return counters.of(request.text);
            default:
                throw new IllegalArgumentException("no such op: " + request.op);
        }
    }

    @Override
    public String interest() {
        return RawRequest.class.getName();
    }

    @Override
    public ExecutorService getExecutor() {
        return pool;
    }
}
