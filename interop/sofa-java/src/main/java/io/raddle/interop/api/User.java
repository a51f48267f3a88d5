package io.raddle.interop.api;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** An object with every kind of field a serialiser meets. */
public class User implements Serializable {
    private static final long serialVersionUID = 1L;

    public String name;
    public int age;
    public long id;
    public double score;
    public boolean vip;
    public Date born;
    public List<Item> items;
    public Map<String, List<String>> tags;
    public User parent;

    /** One bought thing. */
    public static class Item implements Serializable {
        private static final long serialVersionUID = 1L;

        public String sku;
        public int count;

        public Item() {}

        public Item(String sku, int count) {
            this.sku = sku;
            this.count = count;
        }
    }

    /** A user with nested lists and maps, an empty list, and a parent of its own kind. */
    public static User sample() {
        User user = new User();
        user.name = "Ada 洛芙莱斯";
        user.age = 36;
        user.id = 9_007_199_254_740_991L;
        user.score = 3.25;
        user.vip = true;
        user.born = new Date(1_000_000_000_000L);
        user.items = new ArrayList<>(List.of(new Item("book", 2), new Item("笔", 300)));
        user.tags = new LinkedHashMap<>();
        user.tags.put("langs", new ArrayList<>(List.of("en", "中文")));
        user.tags.put("none", new ArrayList<>());
        User parent = new User();
        parent.name = "George";
        parent.age = -1;
        user.parent = parent;
        return user;
    }
}
