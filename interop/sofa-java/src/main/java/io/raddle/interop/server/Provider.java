package io.raddle.interop.server;

import com.alipay.remoting.rpc.RpcServer;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import io.raddle.interop.proto.ShopProtoService;
import io.raddle.interop.api.ShopService;

/**
 * The callee: a SOFARPC Bolt server (Hessian and protobuf services on one port) and a bare SOFABolt server.
 *
 * <p>Usage: {@code Provider SOFARPC_PORT RAW_PORT NAME}; prints {@code READY} when both accept. A port of 0
 * leaves that server out.
 */
public final class Provider {
    private Provider() {}

    public static void main(String[] args) throws Exception {
        int rpcPort = Integer.parseInt(args[0]);
        int rawPort = Integer.parseInt(args[1]);
        String name = args[2];
        if (rpcPort != 0) {
            serveSofaRpc(rpcPort, name);
        }
        if (rawPort != 0) {
            serveRawBolt(rawPort);
        }
        System.out.println("READY " + name);
        Thread.currentThread().join();
    }

    private static void serveSofaRpc(int port, String name) {
        ServerConfig server = new ServerConfig()
                .setProtocol("bolt")
                .setHost("127.0.0.1")
                .setBoundHost("127.0.0.1")
                .setPort(port)
                .setCoreThreads(32)
                .setMaxThreads(200)
                .setDaemon(true);
        ApplicationConfig app = new ApplicationConfig().setAppName("order");
        new ProviderConfig<ShopService>()
                .setApplication(app)
                .setInterfaceId(ShopService.class.getName())
                .setRef(new ShopServiceImpl(name))
                .setRegister(false)
                .setServer(server)
                .export();
        // The same interface under a unique id: the service name on the wire gets a third part.
        new ProviderConfig<ShopService>()
                .setApplication(app)
                .setInterfaceId(ShopService.class.getName())
                .setUniqueId("second")
                .setRef(new ShopServiceImpl(name + "/second"))
                .setRegister(false)
                .setServer(server)
                .export();
        new ProviderConfig<ShopProtoService>()
                .setApplication(app)
                .setInterfaceId(ShopProtoService.class.getName())
                .setRef(new ShopProtoServiceImpl())
                .setSerialization("protobuf")
                .setRegister(false)
                .setServer(server)
                .export();
    }

    private static void serveRawBolt(int port) {
        RpcServer raw = new RpcServer("127.0.0.1", port);
        raw.registerUserProcessor(new RawProcessor());
        raw.startup();
    }
}
