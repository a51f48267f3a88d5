package io.raddle.interop.dubbo.client;

import io.raddle.interop.dubbo.api.MissingService;
import io.raddle.interop.dubbo.api.ShopException;
import io.raddle.interop.dubbo.api.ShopService;
import java.util.concurrent.TimeUnit;
import org.apache.dubbo.config.ReferenceConfig;

/** Failures that the callee tells, and timeouts; each must leave the connection in use. */
final class FailureCases {
    private final Outcomes out;
    private final String name;
    private final References references;

    FailureCases(Outcomes out, String name, References references) {
        this.out = out;
        this.name = name;
        this.references = references;
    }

    /** What a throwing method looks like with one serialiser. */
    void thrown(String serialiser, ShopService shop) {
        out.run(serialiser + "-failure.server throws", () -> shop.boom(ValueCases.TEXT));
        out.run(serialiser + "-failure.server throws a declared exception", () -> shop.boomChecked("x"));
        out.run(serialiser + "-failure.its fields", () -> {
            try {
                return shop.boomChecked("x");
            } catch (ShopException e) {
                return "caught, code " + e.getCode();
            }
        });
        out.run(serialiser + "-failure.connection still serves", () -> shop.plus(1, 2));
    }

    void run() {
        ShopService shop = references.of(ShopService.class);
        thrown(name, shop);
        out.run(name + "-timeout.sync", () -> impatient().slow(1500));
        out.run(name + "-timeout.future", () -> impatient().later("x", 1500).get(5, TimeUnit.SECONDS));
        out.run(name + "-timeout.connection still serves", () -> shop.plus(3, 4));
        out.run(name + "-missing.service", () -> references.of(MissingService.class).echo("x"));
        out.run(name + "-missing.version", () -> {
            ReferenceConfig<ShopService> other = references.config(ShopService.class);
            other.setVersion("9.9");
            return other.get().echo("x");
        });
        out.run(name + "-missing.connection still serves", () -> shop.plus(5, 6));
    }

    private ShopService impatient() {
        ReferenceConfig<ShopService> reference = references.config(ShopService.class);
        reference.setTimeout(300);
        return reference.get();
    }
}
