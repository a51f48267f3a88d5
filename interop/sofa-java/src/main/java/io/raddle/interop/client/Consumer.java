package io.raddle.interop.client;

import com.alipay.remoting.rpc.RpcClient;
import java.io.File;

/**
 * The caller: runs every case against one address and writes what each came to.
 *
 * <p>Usage: {@code Consumer OUT.json java|node RPC_ADDRESS [RAW_ADDRESS]}. The same program runs directly
 * against a provider and through sidecars; the runner compares the two files.
 */
public final class Consumer {
    private Consumer() {}

    public static void main(String[] args) throws Exception {
        File file = new File(args[0]);
        boolean javaPeer = args[1].equals("java");
        Outcomes out = new Outcomes();
        Peers peers = new Peers(args[2]);
        new HessianCases(out, peers).run(javaPeer);
        new ProtobufCases(out, peers).run();
        if (javaPeer) {
            new GenericCases(out, args[2]).run();
        }
        if (args.length > 3) {
            raw(out, args[3]);
            new HeartbeatCases(out, args[3]).run();
        }
        out.write(file);
        System.out.println("DONE " + out.size() + " cases");
        System.exit(0);
    }

    private static void raw(Outcomes out, String address) {
        for (RawBoltCases.Version version : RawBoltCases.Version.values()) {
            RpcClient client = new RpcClient();
            client.startup();
            new RawBoltCases(out, address, version, client).run();
            client.shutdown();
        }
    }
}
