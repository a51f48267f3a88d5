package io.raddle.interop.dubbo.api;

import java.io.Serializable;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** An object with every kind of field a serialiser meets. */
public class Order implements Serializable {
    private static final long serialVersionUID = 1L;

    /** How far it is. */
    public enum State {
        OPEN,
        PAID
    }

    /** One bought thing. */
    public static class Item implements Serializable {
        private static final long serialVersionUID = 1L;

        private String sku;
        private int count;

        public Item() {}

        public Item(String sku, int count) {
            this.sku = sku;
            this.count = count;
        }

        public String getSku() {
            return sku;
        }

        public void setSku(String sku) {
            this.sku = sku;
        }

        public int getCount() {
            return count;
        }

        public void setCount(int count) {
            this.count = count;
        }
    }

    private long id;
    private String buyer;
    private State state;
    private BigDecimal total;
    private Date placed;
    private boolean gift;
    private double weight;
    private List<Item> items;
    private Map<String, List<String>> notes;
    private Order replaces;

    /** An order with nested lists and maps, an empty list, and another order in it. */
    public static Order sample() {
        Order order = new Order();
        order.id = 9_007_199_254_740_991L;
        order.buyer = "Ada 洛芙莱斯";
        order.state = State.PAID;
        order.total = new BigDecimal("12345.670");
        order.placed = new Date(1_000_000_000_000L);
        order.gift = true;
        order.weight = 3.25;
        order.items = new ArrayList<>(List.of(new Item("book", 2), new Item("笔", 300)));
        order.notes = new LinkedHashMap<>();
        order.notes.put("langs", new ArrayList<>(List.of("en", "中文")));
        order.notes.put("none", new ArrayList<>());
        Order old = new Order();
        old.id = -1;
        old.buyer = "George";
        old.state = State.OPEN;
        order.replaces = old;
        return order;
    }

    public long getId() {
        return id;
    }

    public void setId(long id) {
        this.id = id;
    }

    public String getBuyer() {
        return buyer;
    }

    public void setBuyer(String buyer) {
        this.buyer = buyer;
    }

    public State getState() {
        return state;
    }

    public void setState(State state) {
        this.state = state;
    }

    public BigDecimal getTotal() {
        return total;
    }

    public void setTotal(BigDecimal total) {
        this.total = total;
    }

    public Date getPlaced() {
        return placed;
    }

    public void setPlaced(Date placed) {
        this.placed = placed;
    }

    public boolean isGift() {
        return gift;
    }

    public void setGift(boolean gift) {
        this.gift = gift;
    }

    public double getWeight() {
        return weight;
    }

    public void setWeight(double weight) {
        this.weight = weight;
    }

    public List<Item> getItems() {
        return items;
    }

    public void setItems(List<Item> items) {
        this.items = items;
    }

    public Map<String, List<String>> getNotes() {
        return notes;
    }

    public void setNotes(Map<String, List<String>> notes) {
        this.notes = notes;
    }

    public Order getReplaces() {
        return replaces;
    }

    public void setReplaces(Order replaces) {
        this.replaces = replaces;
    }
}
