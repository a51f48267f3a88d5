package io.raddle.interop.api;

import java.io.Serializable;

/** A request of bare SOFABolt: what to do, and with what. */
public class RawRequest implements Serializable {
    private static final long serialVersionUID = 1L;

    /** echo, boom, slow, count or counted. */
    public String op;
    public String text;
    public int number;

    public RawRequest() {}

    public RawRequest(String op, String text, int number) {
        this.op = op;
        this.text = text;
        this.number = number;
    }
}
