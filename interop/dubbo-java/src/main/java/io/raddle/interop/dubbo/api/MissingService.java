package io.raddle.interop.dubbo.api;

/** A service that nobody publishes. */
public interface MissingService {
    /** Never answered. */
    String echo(String text);
}
