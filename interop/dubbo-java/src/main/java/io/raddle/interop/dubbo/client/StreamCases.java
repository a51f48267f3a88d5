package io.raddle.interop.dubbo.client;

import com.google.protobuf.ByteString;
import io.raddle.interop.dubbo.proto.EchoReply;
import io.raddle.interop.dubbo.proto.EchoRequest;
import io.raddle.interop.dubbo.proto.ShopProtoService;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.dubbo.common.stream.StreamObserver;
import org.apache.dubbo.config.ReferenceConfig;

/** Triple with protobuf messages: unary calls, streams of each direction, statuses. */
final class StreamCases {
    private final Outcomes out;
    private final References references;
    private final ShopProtoService shop;

    StreamCases(Outcomes out, References references) {
        this.out = out;
        this.references = references;
        this.shop = references.of(ShopProtoService.class);
    }

    void run() {
        unary();
        streams();
        failures();
    }

    private void unary() {
        out.run("protobuf-unary.echo", () -> shop.echo(request(ValueCases.TEXT, 0).toBuilder()
                .addTags("a")
                .addTags("中")
                .putCounts("k", -5)
                .build()));
        out.run("protobuf-unary.empty", () -> shop.echo(EchoRequest.getDefaultInstance()));
        out.run("protobuf-unary.4 MiB", () -> shop.echo(EchoRequest.newBuilder()
                        .setData(ByteString.copyFrom(ValueCases.pattern(4 << 20)))
                        .build())
                .getData()
                .toByteArray());
        out.run("protobuf-unary.server throws", () -> shop.boom(request("x", 0)));
        for (int code : new int[] {3, 5, 7, 8, 14, 16}) {
            out.run("protobuf-unary.status " + code, () -> shop.refuse(request("中 & %", code)));
        }
        out.run("protobuf-unary.deadline", () -> {
            ReferenceConfig<ShopProtoService> reference = references.config(ShopProtoService.class);
            reference.setTimeout(300);
            return reference.get().echo(request("x", 1500));
        });
        out.run("protobuf-unary.connection still serves", () -> shop.echo(request("still", 0)));
    }

    private void streams() {
        out.run("protobuf-stream.server, 5 answers", () -> serverStream("s", 5));
        out.run("protobuf-stream.server, no answer", () -> serverStream("s", 0));
        out.run("protobuf-stream.server, 2000 answers", () -> serverStream("s", 2000).length());
        out.run("protobuf-stream.client, 3 requests", () -> {
            Collected reply = new Collected();
            StreamObserver<EchoRequest> requests = shop.clientStream(reply);
            for (String text : List.of("a", "中", "c")) {
                requests.onNext(request(text, 0));
            }
            requests.onCompleted();
            return reply.all();
        });
        out.run("protobuf-stream.both, by turns", () -> {
            Collected replies = new Collected();
            StreamObserver<EchoRequest> requests = shop.biStream(replies);
            List<String> seen = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                requests.onNext(request("turn", i));
                seen.add(replies.next());
            }
            requests.onCompleted();
            return String.join(" ", seen) + " then " + replies.all();
        });
        out.run("protobuf-stream.both, 200 of 32 KiB at once", () -> {
            Collected replies = new Collected();
            StreamObserver<EchoRequest> requests = shop.biStream(replies);
            ByteString data = ByteString.copyFrom(ValueCases.pattern(32 << 10));
            for (int i = 0; i < 200; i++) {
                requests.onNext(request("big", i).toBuilder().setData(data).build());
            }
            requests.onCompleted();
            String all = replies.all();
            return replies.bytes + " bytes, " + all.length();
        });
    }

    private void failures() {
        out.run("protobuf-stream.server fails after 3 answers", () -> serverStream("boom", 3));
        out.run("protobuf-stream.both, fails at the second", () -> {
            Collected replies = new Collected();
            StreamObserver<EchoRequest> requests = shop.biStream(replies);
            requests.onNext(request("fine", 1));
            String first = replies.next();
            requests.onNext(request("boom", 2));
            try {
                return replies.all();
            } catch (Exception e) {
                return first + " then " + Outcomes.show(e);
            }
        });
        out.run("protobuf-stream.connection still serves", () -> shop.echo(request("still", 0)));
    }

    private String serverStream(String text, int count) throws Exception {
        Collected replies = new Collected();
        shop.serverStream(request(text, count), replies);
        return replies.all();
    }

    static EchoRequest request(String text, int number) {
        return EchoRequest.newBuilder().setText(text).setNumber(number).build();
    }

    /** Answers as they come. */
    static final class Collected implements StreamObserver<EchoReply> {
        private final LinkedBlockingQueue<String> replies = new LinkedBlockingQueue<>();
        private final CompletableFuture<Void> end = new CompletableFuture<>();
        volatile long bytes;

        @Override
        public void onNext(EchoReply reply) {
            bytes += reply.getData().size();
            replies.add(reply.getText() + reply.getNumber());
        }

        @Override
        public void onError(Throwable error) {
            end.completeExceptionally(error);
        }

        @Override
        public void onCompleted() {
            end.complete(null);
        }

        /** The next answer, waited for. */
        String next() throws Exception {
            return replies.poll(5, TimeUnit.SECONDS);
        }

        /** All answers not taken yet, once the stream has ended well. */
        String all() throws Exception {
            try {
                end.get(10, TimeUnit.SECONDS);
            } catch (java.util.concurrent.ExecutionException e) {
                throw new StreamFailed(replies.size() + " answers, then a failure", e.getCause());
            }
            return String.join(" ", replies);
        }
    }

    /** A stream that ended badly, and how much of it had come. */
    static final class StreamFailed extends Exception {
        private static final long serialVersionUID = 1L;

        StreamFailed(String message, Throwable cause) {
            super(message, cause);
        }
    }
}
