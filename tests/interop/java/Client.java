// Java's HttpClient, for test_java.py: it makes requests, and prints a line for each.
//
// java Client.java AUTHORITY-FILE COUNT AT-ONCE URL (get | cancel | close | UPLOAD-FILE)
//
// A line: VERSION STATUS LENGTH SHA-256, or the exception.

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

    /** Cancel a request that the server has, but has not answered. */
    static String cancel(HttpClient client, HttpRequest request, int number) throws Exception {
        var answer = client.sendAsync(request, BodyHandlers.ofByteArray());
        // This is answered when the other one is there.
        client.send(get(request.uri().resolve("/held?" + (number + 1))), BodyHandlers.discarding());
        return "cancelled: " + answer.cancel(true);
    }

    /** Close the body of a response that goes on. */
    static String close(HttpClient client, HttpRequest request) throws Exception {
        try (InputStream body = client.send(request, BodyHandlers.ofInputStream()).body()) {
            return "closed after " + body.read();
        }
    }

    static HttpRequest get(URI uri) {
        return HttpRequest.newBuilder(uri).build();
    }

    /** Make the requests, so many at a time. */
    static void fetch(HttpClient client, HttpRequest request, int count, int atOnce)
            throws Exception {
        var slots = new Semaphore(atOnce);
        var all = new CompletableFuture<?>[count];
        for (int n = 0; n < count; n++) {
            slots.acquire();
            all[n] = client.sendAsync(request, BodyHandlers.ofByteArray()).handle((got, error) -> {
                slots.release();
                System.out.println(told(got, error));
                return null;
            });
        }
        CompletableFuture.allOf(all).join();
    }

    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2)
            .sslContext(trusting(arguments[0])).build();
        int count = Integer.parseInt(arguments[1]);
        int atOnce = Integer.parseInt(arguments[2]);
        URI uri = URI.create(arguments[3]);
        String what = arguments[4];
        // Without a connection, Java begins one for each of the first requests.
        client.send(get(uri.resolve("/")), BodyHandlers.discarding());
        if (what.equals("get")) {
            fetch(client, get(uri), count, atOnce);
        } else if (what.equals("cancel")) {
            for (int n = 0; n < count; n++) {
                System.out.println(cancel(client, get(uri), n));
            }
        } else if (what.equals("close")) {
            for (int n = 0; n < count; n++) {
                System.out.println(close(client, get(uri)));
            }
        } else {
            var upload = BodyPublishers.ofFile(Path.of(what));
            fetch(client, HttpRequest.newBuilder(uri).POST(upload).build(), count, atOnce);
        }
    }
}
