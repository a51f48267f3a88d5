package io.raddle.interop.server;

import io.raddle.interop.api.ShopException;
import io.raddle.interop.api.ShopService;
import io.raddle.interop.api.User;
import java.util.List;
import java.util.Map;

/** The Hessian service. */
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
    public String echo(String text) {
        return text;
    }

    @Override
    public byte[] echoBytes(byte[] bytes) {
        return bytes;
    }

    @Override
    public User echoUser(User user) {
        return user;
    }

    @Override
    public Map<String, List<Integer>> echoMap(Map<String, List<Integer>> map) {
        return map;
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
