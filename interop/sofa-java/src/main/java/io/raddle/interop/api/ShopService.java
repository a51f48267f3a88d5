package io.raddle.interop.api;

import java.util.List;
import java.util.Map;

/** The Hessian service every peer publishes as {@code io.raddle.interop.api.ShopService:1.0}. */
public interface ShopService {
    /** Sum of two primitives. */
    int plus(int a, int b);

    /** The argument back; {@code null} stays {@code null}. */
    String echo(String text);

    /** The bytes back. */
    byte[] echoBytes(byte[] bytes);

    /** The object back, deeply. */
    User echoUser(User user);

    /** The collection back. */
    Map<String, List<Integer>> echoMap(Map<String, List<Integer>> map);

    /** Throws an unchecked exception carrying the text. */
    String boom(String text);

    /** Throws a declared exception carrying the text. */
    String boomChecked(String text) throws ShopException;

    /** Answers after so many milliseconds. */
    String slow(int millis);

    /** Adds one to the counter of that key; answers nothing. */
    void count(String key);

    /** The counter of that key. */
    int counted(String key);

    /** Name of the process that answers (used to see which of several servers did). */
    String whoami();
}
