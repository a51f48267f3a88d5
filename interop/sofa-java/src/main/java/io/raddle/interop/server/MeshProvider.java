package io.raddle.interop.server;

import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import io.raddle.interop.api.ShopService;

/**
 * A SOFARPC provider that joins the mesh by the one line of configuration SOFARPC has for it: the registry.
 *
 * <p>Usage: {@code MeshProvider PORT MESH_API NAME}; prints {@code READY} when it accepts. SIGTERM ends it as
 * SOFARPC ends: it unpublishes first.
 */
public final class MeshProvider {
    private MeshProvider() {}

    public static void main(String[] args) throws Exception {
        ServerConfig server = new ServerConfig()
                .setProtocol("bolt")
                .setHost("127.0.0.1")
                .setBoundHost("127.0.0.1")
                .setPort(Integer.parseInt(args[0]))
                .setCoreThreads(32)
                .setMaxThreads(200)
                .setDaemon(true);
        RegistryConfig mesh = new RegistryConfig().setProtocol("mesh").setAddress(args[1]);
        ProviderConfig<ShopService> provider = new ProviderConfig<ShopService>()
                .setApplication(new ApplicationConfig().setAppName("order"))
                .setInterfaceId(ShopService.class.getName())
                .setRef(new ShopServiceImpl(args[2]))
                .setRegistry(mesh)
                .setServer(server);
        provider.export();
        System.out.println("READY " + args[2]);
        Thread.currentThread().join();
    }
}
