package io.raddle.interop.client;

import com.alipay.sofa.rpc.common.RpcConstants;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.core.invoke.SofaResponseCallback;
import com.alipay.sofa.rpc.core.exception.SofaRpcException;
import com.alipay.sofa.rpc.core.request.RequestBase;
import java.util.concurrent.CompletableFuture;

/** Proxies of services behind one address; every one on the connection SOFARPC shares among them. */
final class Peers {
    static final int TIMEOUT_MS = 5000;

    private final String address;

    /**
     * @param address {@code 127.0.0.1:PORT}: a provider, or the sidecar beside this process; or
     *     {@code http://HOST:PORT}: the local mesh API, and no address of anything else.
     */
    Peers(String address) {
        this.address = address;
    }

    <T> ConsumerConfig<T> config(Class<T> service, String invokeType) {
        ConsumerConfig<T> config = new ConsumerConfig<T>();
        if (address.startsWith("http://")) {
            config.setRegistry(new RegistryConfig().setProtocol("mesh").setAddress(address));
        } else {
            config.setDirectUrl("bolt://" + address).setSubscribe(false);
        }
        return config
                .setApplication(new ApplicationConfig().setAppName("shop"))
                .setInterfaceId(service.getName())
                .setProtocol("bolt")
                .setRegister(false)
                .setTimeout(TIMEOUT_MS)
                .setConnectTimeout(3000)
                .setRepeatedReferLimit(-1)
                .setInvokeType(invokeType);
    }

    <T> T sync(Class<T> service) {
        return config(service, RpcConstants.INVOKER_TYPE_SYNC).refer();
    }

    <T> T future(Class<T> service) {
        return config(service, RpcConstants.INVOKER_TYPE_FUTURE).refer();
    }

    <T> T oneway(Class<T> service) {
        return config(service, RpcConstants.INVOKER_TYPE_ONEWAY).refer();
    }

    <T> T callback(Class<T> service, Answer answer) {
        return config(service, RpcConstants.INVOKER_TYPE_CALLBACK).setOnReturn(answer).refer();
    }

    /** A callback whose answer can be waited for. */
    static final class Answer implements SofaResponseCallback<Object> {
        final CompletableFuture<Object> value = new CompletableFuture<>();

        @Override
        public void onAppResponse(Object response, String method, RequestBase request) {
            value.complete(response);
        }

        @Override
        public void onAppException(Throwable error, String method, RequestBase request) {
            value.completeExceptionally(new RuntimeException("app exception in callback", error));
        }

        @Override
        public void onSofaException(SofaRpcException error, String method, RequestBase request) {
            value.completeExceptionally(new RuntimeException("sofa exception in callback", error));
        }
    }
}
