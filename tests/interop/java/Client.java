// Java's HttpClient, for test_java.py: it makes requests, and prints a line for each.
//
// java Client.java AUTHORITY-FILE COUNT AT-ONCE URL [get | cancel | UPLOAD-FILE]
//
// A line: a number, then what came: VERSION STATUS LENGTH SHA-256, or the exception.

import java.io.FileInputStream;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.util.HexFormat;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Semaphore;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    /** Return a context that trusts the authority and nobody else. */
    static SSLContext trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream pem = new FileInputStream(file)) {
            var authority = CertificateFactory.getInstance("X.509").generateCertificate(pem);
            store.setCertificateEntry("authority", authority);
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    /** Return what came of a request. */
    static String told(HttpResponse<byte[]> response, Throwable error) {
        if (error != null) {
            return error.toString();
        }
        try {
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(response.body());
            return String.format("%s %d %d %s", response.version(), response.statusCode(),
                response.body().length, HexFormat.of().formatHex(hash));
        } catch (java.security.NoSuchAlgorithmException missing) {
            return missing.toString();
        }
    }

    /** Make a request, and cancel it when its response has begun. */
    static String cancelled(HttpClient client, HttpRequest request) throws Exception {
        var answer = client.sendAsync(request, BodyHandlers.ofInputStream());
        InputStream body = answer.get().body();
        int first = body.read();
        body.close();
        return "cancelled after " + first;
    }

    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2)
            .sslContext(trusting(arguments[0])).build();
        int count = Integer.parseInt(arguments[1]);
        var slots = new Semaphore(Integer.parseInt(arguments[2]));
        String what = arguments.length > 4 ? arguments[4] : "get";
        var builder = HttpRequest.newBuilder(URI.create(arguments[3]));
        if (!what.equals("get") && !what.startsWith("cancel")) {
            builder.POST(BodyPublishers.ofFile(Path.of(what)));
        }
        HttpRequest request = builder.build();
        // Without a connection, Java begins one for each of the first requests.
        var first = HttpRequest.newBuilder(URI.create(arguments[3]).resolve("/")).build();
        client.send(first, BodyHandlers.discarding());
        var all = new CompletableFuture<?>[count];
        for (int n = 0; n < count; n++) {
            slots.acquire();
            int number = n;
            if (what.equals("cancel-future")) {
                // Nothing has come of it: the server is still to answer.
                var answer = client.sendAsync(request, BodyHandlers.ofByteArray());
                client.send(first, BodyHandlers.discarding());
                System.out.println(n + " " + answer.cancel(true));
                all[n] = CompletableFuture.completedFuture(null);
                slots.release();
            } else if (what.equals("cancel")) {
                System.out.println(n + " " + cancelled(client, request));
                all[n] = CompletableFuture.completedFuture(null);
                slots.release();
            } else {
                all[n] = client.sendAsync(request, BodyHandlers.ofByteArray())
                    .handle((response, error) -> {
                        slots.release();
                        synchronized (System.out) {
                            System.out.println(number + " " + told(response, error));
                        }
                        return null;
                    });
            }
        }
        CompletableFuture.allOf(all).join();
    }
}
