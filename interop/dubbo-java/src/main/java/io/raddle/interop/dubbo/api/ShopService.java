package io.raddle.interop.dubbo.api;

import java.math.BigDecimal;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;

/** The service published over dubbo:// and tri://, version 1.0, and again with group {@code second}. */
public interface ShopService {
    /** Sum of two primitives. */
    int plus(int a, int b);

    /** The long back. */
    long echoLong(long value);

    /** The double back. */
    double echoDouble(double value);

    /** The opposite. */
    boolean not(boolean value);

    /** The argument back; {@code null} stays {@code null}. */
    String echo(String text);

    /** The bytes back. */
    byte[] echoBytes(byte[] bytes);

    /** The list back. */
    List<String> echoList(List<String> list);

    /** The map back. */
    Map<String, List<Integer>> echoMap(Map<String, List<Integer>> map);

    /** The object back, deeply. */
    Order echoOrder(Order order);

    /** The small object back. */
    Order.Item echoItem(Order.Item item);

    /** The enum constant back. */
    Order.State echoState(Order.State state);

    /** The number back, with its scale. */
    BigDecimal echoDecimal(BigDecimal value);

    /** The instant back. */
    Date echoDate(Date date);

    /** Throws an unchecked exception carrying the text. */
    String boom(String text);

    /** Throws a declared exception carrying the text. */
    String boomChecked(String text) throws ShopException;

    /** Answers after so many milliseconds. */
    String slow(int millis);

    /** Answers after so many milliseconds, without a thread that waits. */
    CompletableFuture<String> later(String text, int millis);

    /** Fails later with an unchecked exception carrying the text. */
    CompletableFuture<String> boomLater(String text);

    /** The request's attachments of those names; answers with attachment {@code from-server} set. */
    Map<String, String> attachments(List<String> names);

    /** Adds one to the counter of that key; answers nothing. */
    void count(String key);

    /** The counter of that key. */
    int counted(String key);

    /** Name of the process that answers (used to see which of several servers did). */
    String whoami();
}
