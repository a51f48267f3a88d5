package io.raddle.interop.dubbo.client;

import io.raddle.interop.dubbo.api.ShopService;
import java.io.File;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.dubbo.config.ReferenceConfig;

/**
 * The caller: runs every case against one address and writes what each came to.
 *
 * <p>Usage: {@code Consumer OUT.json dubbo ADDRESS FASTJSON2_ADDRESS}, {@code Consumer OUT.json tri ADDRESS} or
 * {@code Consumer OUT.json refused dubbo|tri ADDRESS}; {@code Consumer OUT.json probe ADDRESS TEXT...} echoes the texts
 * and shows what came of it, how often it was tried too ({@code probe-tri}: over Triple). The same program runs directly against a provider and
 * through sidecars; the runner compares the two files. Behind the fastjson2 address the sidecar must know the
 * service without reading the frames.
 */
public final class Consumer {
    private Consumer() {}

    public static void main(String[] args) throws Exception {
        References.start();
        Outcomes out = new Outcomes();
        switch (args[1]) {
            case "dubbo":
                dubbo(out, new References("dubbo", args[2]), new References("dubbo", args[3]));
                break;
            case "tri":
                triple(out, new References("tri", args[2]));
                break;
            case "refused":
                String name = args[2].equals("tri") ? "triple" : args[2];
                new RefusalCases(out, name, new References(args[2], args[3])).run(args[2].equals("tri"));
                break;
            case "probe":
                probe(out, new References("dubbo", args[2]), Arrays.asList(args).subList(3, args.length));
                break;
            case "probe-tri":
                probe(out, new References("tri", args[2]), Arrays.asList(args).subList(3, args.length));
                break;
            default:
                throw new IllegalArgumentException("no such cases: " + args[1]);
        }
        out.write(new File(args[0]));
        System.out.println("DONE " + out.size() + " cases");
        System.exit(0);
    }

    private static void probe(Outcomes out, References references, List<String> texts) {
        ReferenceConfig<ShopService> reference = references.config(ShopService.class);
        reference.setTimeout(1000);
        // As it is without a word about it: two more tries.
        reference.setRetries(2);
        ShopService shop = reference.get();
        for (String text : texts) {
            out.run(text + " sync", () -> shop.echo(text));
            out.run(text + " async", () -> shop.later(text, 0).get(5, TimeUnit.SECONDS));
        }
    }

    private static void dubbo(Outcomes out, References references, References fastjson) {
        new ValueCases(out, "hessian2", references.of(ShopService.class, "hessian2")).run();
        ShopService shop = fastjson.of(ShopService.class, "fastjson2");
        new ValueCases(out, "fastjson2", shop).run();
        new KindCases(out, "dubbo", references).run();
        FailureCases failures = new FailureCases(out, "dubbo", references);
        failures.run();
        failures.thrown("fastjson2", shop);
    }

    private static void triple(Outcomes out, References references) {
        new ValueCases(out, "triple", references.of(ShopService.class)).run();
        new KindCases(out, "triple", references).run();
        new FailureCases(out, "triple", references).run();
        new StreamCases(out, references).run();
    }
}
