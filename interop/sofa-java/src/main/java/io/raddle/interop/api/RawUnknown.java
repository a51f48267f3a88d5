package io.raddle.interop.api;

import java.io.Serializable;

/** A request class for which the bare SOFABolt server has no processor. */
public class RawUnknown implements Serializable {
    private static final long serialVersionUID = 1L;

    public String text = "nobody listens";
}
