package io.raddle.interop.dubbo.client;

import io.raddle.interop.dubbo.api.DeadService;
import io.raddle.interop.dubbo.api.MissingService;
import io.raddle.interop.dubbo.api.ShopService;
import io.raddle.interop.dubbo.proto.ShopProtoService;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.rpc.RpcContext;

/**
 * What callers are told when the sidecar, not the callee, answers: there is no direct counterpart.
 *
 * <p>Behind the address {@link MissingService} is unknown to the sidecar, {@link DeadService} has an endpoint that
 * does not listen, and a rule aborts every call of group {@code second}.
 */
final class RefusalCases {
    private final Outcomes out;
    private final String name;
    private final References references;

    RefusalCases(Outcomes out, String name, References references) {
        this.out = out;
        this.name = name;
        this.references = references;
    }

    void run(boolean streams) {
        ShopService shop = references.of(ShopService.class);
        MissingService missing = references.of(MissingService.class);
        DeadService dead = references.of(DeadService.class);
        ReferenceConfig<ShopService> second = references.config(ShopService.class);
        second.setGroup("second");
        ShopService aborted = second.get();
        out.run(name + "-unknown.sync", () -> missing.echo("x"));
        out.run(name + "-unknown.async", () -> later(() -> missing.echo("x")));
        out.run(name + "-unknown.generic", () -> references
                .generic(MissingService.class.getName())
                .$invoke("echo", new String[] {"java.lang.String"}, new Object[] {"x"}));
        out.run(name + "-dead.sync", () -> dead.echo("x"));
        out.run(name + "-dead.async", () -> later(() -> dead.echo("x")));
        out.run(name + "-aborted.sync", () -> aborted.echo("x"));
        out.run(name + "-aborted.async", () -> later(() -> aborted.echo("x")));
        out.run(name + "-aborted.future", () -> aborted.later("x", 1).get(5, TimeUnit.SECONDS));
        if (streams) {
            streams();
        }
        out.run(name + "-unknown.connection still serves", () -> shop.plus(20, 22));
    }

    private void streams() {
        ReferenceConfig<ShopProtoService> second = references.config(ShopProtoService.class);
        second.setGroup("second");
        ShopProtoService aborted = second.get();
        out.run(name + "-aborted.protobuf", () -> aborted.echo(StreamCases.request("x", 0)));
        out.run(name + "-aborted.server stream", () -> {
            StreamCases.Collected replies = new StreamCases.Collected();
            aborted.serverStream(StreamCases.request("x", 3), replies);
            return replies.all();
        });
        out.run(name + "-aborted.both", () -> {
            StreamCases.Collected replies = new StreamCases.Collected();
            aborted.biStream(replies).onNext(StreamCases.request("x", 3));
            return replies.all();
        });
    }

    private static Object later(Callable<String> call) throws Exception {
        return RpcContext.getServiceContext().asyncCall(call).get(5, TimeUnit.SECONDS);
    }
}
