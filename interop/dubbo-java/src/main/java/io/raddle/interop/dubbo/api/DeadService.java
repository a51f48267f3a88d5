package io.raddle.interop.dubbo.api;

/** A service whose only provider, as the sidecar is told, does not listen. */
public interface DeadService {
    /** Never answered. */
    String echo(String text);
}
