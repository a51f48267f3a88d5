package io.raddle.interop.dubbo.server;

import io.raddle.interop.dubbo.api.Order;
import io.raddle.interop.dubbo.api.ShopException;
import io.raddle.interop.dubbo.api.ShopService;
import java.math.BigDecimal;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.dubbo.rpc.RpcContext;

/** The service with plain Java values. */
final class ShopServiceImpl implements ShopService {
    private final Counters counters = new Counters();
    private final String name;

    ShopServiceImpl(String name) {
        this.name = name;
    }

    @Override
    public int plus(int a, int b) {
        return a + b;
    }

    @Override
    public long echoLong(long value) {
        return value;
    }

    @Override
    public double echoDouble(double value) {
        return value;
    }

    @Override
    public boolean not(boolean value) {
        return !value;
    }

    @Override
    public String echo(String text) {
        return text;
    }

    @Override
    public byte[] echoBytes(byte[] bytes) {
        return bytes;
    }

    @Override
    public List<String> echoList(List<String> list) {
        return list;
    }

    @Override
    public Map<String, List<Integer>> echoMap(Map<String, List<Integer>> map) {
        return map;
    }

    @Override
    public Order echoOrder(Order order) {
        return order;
    }

    @Override
    public Order.Item echoItem(Order.Item item) {
        return item;
    }

    @Override
    public Order.State echoState(Order.State state) {
        return state;
    }

    @Override
    public BigDecimal echoDecimal(BigDecimal value) {
        return value;
    }

    @Override
    public Date echoDate(Date date) {
        return date;
    }

    @Override
    public String boom(String text) {
        throw new IllegalStateException("boom: " + text);
    }

    @Override
    public String boomChecked(String text) throws ShopException {
        throw new ShopException("checked boom: " + text, 42);
    }

    @Override
    public String slow(int millis) {
        Counters.pause(millis);
        return "slept " + millis;
    }

    @Override
    public CompletableFuture<String> later(String text, int millis) {
        return CompletableFuture.supplyAsync(
                () -> text, CompletableFuture.delayedExecutor(millis, TimeUnit.MILLISECONDS));
    }

    @Override
    public CompletableFuture<String> boomLater(String text) {
        return CompletableFuture.failedFuture(new IllegalStateException("boom later: " + text));
    }

    @Override
    public Map<String, String> attachments(List<String> names) {
        Map<String, String> seen = new TreeMap<>();
        for (String one : names) {
            seen.put(one, String.valueOf(RpcContext.getServerAttachment().getObjectAttachment(one)));
        }
        RpcContext.getServerContext().setAttachment("from-server", "hello " + names.size());
        return seen;
    }

    @Override
    public void count(String key) {
        counters.add(key);
    }

    @Override
    public int counted(String key) {
        return counters.of(key);
    }

    @Override
    public String whoami() {
        return name;
    }
}
