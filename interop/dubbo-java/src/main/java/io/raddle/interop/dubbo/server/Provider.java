package io.raddle.interop.dubbo.server;

import io.raddle.interop.dubbo.api.ShopService;
import io.raddle.interop.dubbo.proto.ShopProtoService;
import java.util.ArrayList;
import java.util.List;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/**
 * The callee: a Dubbo server and a Triple server, without a registry.
 *
 * <p>Usage: {@code Provider DUBBO_PORT TRIPLE_PORT NAME}; prints {@code READY} when both accept. A port of 0
 * leaves that server out. They listen on every address: Dubbo refuses to bind to a loopback one alone.
 */
public final class Provider {
    private static final int PAYLOAD = 16 << 20;

    private Provider() {}

    public static void main(String[] args) throws Exception {
        int dubboPort = Integer.parseInt(args[0]);
        int triplePort = Integer.parseInt(args[1]);
        String name = args[2];
        ApplicationConfig app = new ApplicationConfig("order");
        app.setQosEnable(false);
        DubboBootstrap bootstrap =
                DubboBootstrap.getInstance().application(app).registry(new RegistryConfig("N/A"));
        List<ProtocolConfig> protocols = new ArrayList<>();
        if (dubboPort != 0) {
            ProtocolConfig dubbo = protocol("dubbo", dubboPort);
            dubbo.setSerialization("hessian2");
            dubbo.setPreferSerialization("hessian2,fastjson2");
            protocols.add(dubbo);
        }
        if (triplePort != 0) {
            ProtocolConfig triple = protocol("tri", triplePort);
            protocols.add(triple);
            bootstrap.service(service(ShopProtoService.class, new ShopProtoServiceImpl(), List.of(triple)));
        }
        bootstrap.protocols(protocols);
        bootstrap.service(service(ShopService.class, new ShopServiceImpl(name), protocols));
        // The same interface in a group: the service name gets a third part.
        ServiceConfig<ShopService> second =
                service(ShopService.class, new ShopServiceImpl(name + "/second"), protocols);
        second.setGroup("second");
        bootstrap.service(second);
        bootstrap.start();
        System.out.println("READY " + name);
        Thread.currentThread().join();
    }

    private static ProtocolConfig protocol(String name, int port) {
        ProtocolConfig protocol = new ProtocolConfig(name, port);
        protocol.setId(name);
        protocol.setHost("127.0.0.1");
        protocol.setPayload(PAYLOAD);
        protocol.setThreads(200);
        return protocol;
    }

    private static <T> ServiceConfig<T> service(Class<T> type, T implementation, List<ProtocolConfig> protocols) {
        ServiceConfig<T> service = new ServiceConfig<>();
        service.setInterface(type);
        service.setRef(implementation);
        service.setVersion("1.0");
        service.setProtocols(protocols);
        return service;
    }
}
