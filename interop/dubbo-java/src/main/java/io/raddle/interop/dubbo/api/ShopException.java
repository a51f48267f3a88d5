package io.raddle.interop.dubbo.api;

/** The declared exception of {@link ShopService#boomChecked}. */
public class ShopException extends Exception {
    private static final long serialVersionUID = 1L;

    private int code;

    public ShopException() {}

    public ShopException(String message, int code) {
        super(message + ", code " + code);
        this.code = code;
    }

    public int getCode() {
        return code;
    }

    public void setCode(int code) {
        this.code = code;
    }
}
