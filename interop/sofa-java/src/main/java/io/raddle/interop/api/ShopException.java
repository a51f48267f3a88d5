package io.raddle.interop.api;

/** The declared exception of {@link ShopService#boomChecked}. */
public class ShopException extends Exception {
    private static final long serialVersionUID = 1L;

    private final int code;

    public ShopException(String message, int code) {
        super(message + ", code " + code);
        this.code = code;
    }

    public int code() {
        return code;
    }
}
