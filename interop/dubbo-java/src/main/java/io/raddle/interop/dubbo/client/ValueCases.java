package io.raddle.interop.dubbo.client;

import io.raddle.interop.dubbo.api.Order;
import io.raddle.interop.dubbo.api.ShopService;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Every kind of value there and back, with one serialiser. */
final class ValueCases {
    static final String TEXT = "héllo 中文 😀 \u0000 end";

    private final Outcomes out;
    private final String group;
    private final ShopService shop;

    ValueCases(Outcomes out, String name, ShopService shop) {
        this.out = out;
        this.group = name + "-value.";
        this.shop = shop;
    }

    void run() {
        numbers();
        texts();
        objects();
        out.run(group + "bytes empty", () -> shop.echoBytes(new byte[0]));
        out.run(group + "bytes 4 MiB", () -> shop.echoBytes(pattern(4 << 20)));
    }

    private void numbers() {
        out.run(group + "plus", () -> shop.plus(1, 2));
        out.run(group + "plus extremes", () -> shop.plus(Integer.MIN_VALUE, Integer.MAX_VALUE));
        out.run(group + "long small", () -> shop.echoLong(-5));
        out.run(group + "long largest", () -> shop.echoLong(Long.MAX_VALUE));
        out.run(group + "double", () -> shop.echoDouble(-0.1));
        out.run(group + "double whole", () -> shop.echoDouble(1e6));
        out.run(group + "double smallest", () -> shop.echoDouble(Double.MIN_VALUE));
        out.run(group + "boolean", () -> shop.not(true) + " " + shop.not(false));
        out.run(group + "decimal", () -> shop.echoDecimal(new BigDecimal("-123456789.0100")));
    }

    private void texts() {
        out.run(group + "echo ascii", () -> shop.echo("hello"));
        out.run(group + "echo utf-8", () -> shop.echo(TEXT));
        out.run(group + "echo empty", () -> shop.echo(""));
        out.run(group + "echo null", () -> shop.echo(null));
        out.run(group + "echo 64 KiB and a byte", () -> shop.echo("x".repeat((64 << 10) + 1)));
        out.run(group + "echo 40 KiB of two kinds", () -> shop.echo("中x".repeat(10 << 10)));
    }

    private void objects() {
        out.run(group + "list", () -> shop.echoList(new ArrayList<>(List.of("a", "中", ""))));
        out.run(group + "list empty", () -> shop.echoList(new ArrayList<>()));
        out.run(group + "map of lists", () -> {
            Map<String, List<Integer>> map = new LinkedHashMap<>();
            map.put("a", new ArrayList<>(List.of(1, -1, 70_000)));
            map.put("空", new ArrayList<>());
            return shop.echoMap(map);
        });
        out.run(group + "item", () -> shop.echoItem(new Order.Item("笔", -7)));
        out.run(group + "order", () -> shop.echoOrder(Order.sample()));
        out.run(group + "order null", () -> shop.echoOrder(null));
        out.run(group + "enum", () -> shop.echoState(Order.State.PAID));
        out.run(group + "date", () -> shop.echoDate(new Date(1_234_567_890_123L)));
    }

    static byte[] pattern(int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) (i * 31 + (i >> 8));
        }
        return bytes;
    }
}
