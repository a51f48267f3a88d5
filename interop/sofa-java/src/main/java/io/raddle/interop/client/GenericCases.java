package io.raddle.interop.client;

import com.alipay.hessian.generic.model.GenericObject;
import com.alipay.sofa.rpc.api.GenericService;
import com.alipay.sofa.rpc.common.RpcConstants;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import io.raddle.interop.api.ShopService;
import io.raddle.interop.api.User;

/** Calls without the interface: what gateways do. Also the way to a method that does not exist. */
final class GenericCases {
    private final Outcomes out;
    private final GenericService shop;

    GenericCases(Outcomes out, String address) {
        this.out = out;
        this.shop = new ConsumerConfig<GenericService>()
                .setApplication(new ApplicationConfig().setAppName("shop"))
                .setInterfaceId(ShopService.class.getName())
                .setGeneric(true)
                .setProtocol("bolt")
                .setDirectUrl("bolt://" + address)
                .setRegister(false)
                .setSubscribe(false)
                .setInvokeType(RpcConstants.INVOKER_TYPE_SYNC)
                .setTimeout(Peers.TIMEOUT_MS)
                .setRepeatedReferLimit(-1)
                .refer();
    }

    void run() {
        out.run("generic.plus", () -> shop.$invoke("plus", new String[] {"int", "int"}, new Object[] {40, 2}));
        out.run("generic.echo", () -> shop.$invoke(
                "echo", new String[] {"java.lang.String"}, new Object[] {HessianCases.TEXT}));
        out.run("generic.user as a generic object", () -> {
            GenericObject user = new GenericObject(User.class.getName());
            user.putField("name", "generic");
            user.putField("age", 7);
            Object answer = shop.$genericInvoke(
                    "echoUser", new String[] {User.class.getName()}, new Object[] {user});
            GenericObject back = (GenericObject) answer;
            return back.getType() + " " + back.getField("name") + " " + back.getField("age");
        });
        out.run("generic.no such method", () -> shop.$invoke("nosuch", new String[0], new Object[0]));
        out.run("generic.wrong argument types", () -> shop.$invoke(
                "plus", new String[] {"java.lang.String"}, new Object[] {"x"}));
    }
}
