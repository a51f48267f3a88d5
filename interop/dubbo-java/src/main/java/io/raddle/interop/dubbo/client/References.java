package io.raddle.interop.dubbo.client;

import java.util.Map;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.service.GenericService;

/** Proxies of services behind one address: a provider, or the sidecar beside this process. */
final class References {
    static final int TIMEOUT_MS = 5000;
    private static final int PAYLOAD = 16 << 20;

    private final String scheme;
    private final String address;

    /** @param scheme {@code dubbo} or {@code tri} */
    References(String scheme, String address) {
        this.scheme = scheme;
        this.address = address;
    }

    /** Makes this process a Dubbo application without a registry and without ports of its own. */
    static void start() {
        ApplicationConfig app = new ApplicationConfig("shop");
        app.setQosEnable(false);
        DubboBootstrap.getInstance()
                .application(app)
                .registry(new RegistryConfig("N/A"))
                .start();
    }

    <T> ReferenceConfig<T> config(Class<T> service) {
        ReferenceConfig<T> reference = new ReferenceConfig<>();
        reference.setInterface(service);
        return with(reference, Map.of());
    }

    <T> T of(Class<T> service) {
        return config(service).get();
    }

    /** A proxy that sends with another serialiser. */
    <T> T of(Class<T> service, String serialization) {
        ReferenceConfig<T> reference = new ReferenceConfig<>();
        reference.setInterface(service);
        return with(reference, Map.of("serialization", serialization, "prefer.serialization", serialization))
                .get();
    }

    GenericService generic(String service) {
        ReferenceConfig<GenericService> reference = new ReferenceConfig<>();
        reference.setInterface(service);
        reference.setGeneric("true");
        return with(reference, Map.of()).get();
    }

    private <T> ReferenceConfig<T> with(ReferenceConfig<T> reference, Map<String, String> parameters) {
        StringBuilder url = new StringBuilder(scheme + "://" + address + "?payload=" + PAYLOAD);
        parameters.forEach((key, value) -> url.append('&').append(key).append('=').append(value));
        reference.setUrl(url.toString());
        reference.setVersion("1.0");
        reference.setTimeout(TIMEOUT_MS);
        reference.setRetries(0);
        reference.setCheck(false);
        reference.setScope("remote");
        return reference;
    }
}
