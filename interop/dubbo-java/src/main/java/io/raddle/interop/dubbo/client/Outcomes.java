package io.raddle.interop.dubbo.client;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.google.protobuf.Message;
import java.io.File;
import java.lang.reflect.UndeclaredThrowableException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.regex.Pattern;
import java.util.zip.CRC32;

/**
 * What every case came to, as text that two runs can be compared by: a value, or the chain of exceptions.
 *
 * <p>Addresses, request ids, times and durations differ from run to run and are replaced by their kind.
 */
final class Outcomes {
    private static final ObjectMapper JSON = new ObjectMapper()
            .configure(SerializationFeature.FAIL_ON_EMPTY_BEANS, false)
            .configure(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS, true)
            .configure(SerializationFeature.INDENT_OUTPUT, false);
    private static final int LONGEST_SHOWN = 400;
    /** Found in messages, and what stands for it; in this order. */
    private static final Map<Pattern, String> VARYING = varying();

    private final Map<String, String> byCase = new LinkedHashMap<>();

    /** Runs one case and keeps its outcome. */
    void run(String name, Callable<Object> body) {
        String outcome;
        try {
            outcome = "ok " + show(body.call());
        } catch (Throwable e) {
            outcome = "throw " + show(e);
        }
        if (byCase.put(name, outcome) != null) {
            throw new IllegalStateException("two cases are called " + name);
        }
    }

    /** A value as text; long ones as their length and CRC. */
    static String show(Object value) throws Exception {
        String text;
        if (value instanceof byte[]) {
            return digest("bytes", (byte[]) value);
        } else if (value instanceof Message) {
            text = value.toString().replace('\n', ' ').trim();
        } else if (value instanceof Throwable) {
            text = show((Throwable) value);
        } else {
            text = JSON.writeValueAsString(value);
        }
        return text.length() <= LONGEST_SHOWN ? text : digest("text", text.getBytes(StandardCharsets.UTF_8));
    }

    private static String digest(String kind, byte[] bytes) {
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return kind + " of " + bytes.length + " bytes, crc " + Long.toHexString(crc.getValue());
    }

    /** An exception and its causes, wrappers that only this client made left out. */
    static String show(Throwable error) {
        Throwable at = error;
        while (at.getCause() != null
                && (at instanceof UndeclaredThrowableException
                        || at instanceof ExecutionException
                        || at instanceof CompletionException)) {
            at = at.getCause();
        }
        StringBuilder text = new StringBuilder();
        String before = null;
        for (int depth = 0; at != null && depth < 5; depth++, at = at.getCause()) {
            String one = at.getClass().getName() + ": " + normalise(at.getMessage());
            if (!one.equals(before)) {
                text.append(depth == 0 ? "" : " <- ").append(one);
            }
            before = one;
        }
        return text.toString();
    }

    private static Map<Pattern, String> varying() {
        Map<Pattern, String> varying = new LinkedHashMap<>();
        varying.put(Pattern.compile("(tri|dubbo)://\\S+"), "URL");
        varying.put(Pattern.compile("([\\w.-]+/|/)?\\d+\\.\\d+\\.\\d+\\.\\d+(:\\d+)?"), "ADDR");
        varying.put(Pattern.compile("loopback\\.test(:\\d+)?"), "ADDR");
        varying.put(Pattern.compile("on the consumer \\S+"), "on the consumer HOST");
        varying.put(Pattern.compile("\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\.\\d+"), "TIME");
        varying.put(Pattern.compile("(?i)\\b(id[ =:]+)-?\\d+"), "$1N");
        varying.put(Pattern.compile("-?\\d+(\\.\\d+)? ?ms"), "N ms");
        return varying;
    }

    private static String normalise(String message) {
        if (message == null) {
            return "null";
        }
        String text = message.strip().lines().findFirst().orElse("");
        for (Map.Entry<Pattern, String> one : VARYING.entrySet()) {
            text = one.getKey().matcher(text).replaceAll(one.getValue());
        }
        return text;
    }

    /** Writes {case: outcome}. */
    void write(File file) throws Exception {
        JSON.writerWithDefaultPrettyPrinter().writeValue(file, byCase);
    }

    int size() {
        return byCase.size();
    }
}
