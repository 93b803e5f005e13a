// SPDX-License-Identifier: Apache-2.0
// The JDK's own HTTP server and client: java HttpEcho.java serve PORT | talk PORT ROUNDS
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;

public class HttpEcho {
  static final int[] SIZES = {1, 100, 4096, 65537, 1 << 20, 10 << 20};
  static final int CLIENTS = 4;
  static final Path SEEN = Path.of("seen");  // by the test: connections are kept until then

  static String digestOf(byte[] bytes) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    } catch (java.security.NoSuchAlgorithmException error) {
      throw new IllegalStateException(error);
    }
  }

  static void answer(HttpExchange exchange) throws IOException {
    try (exchange) {
      byte[] body = exchange.getRequestBody().readAllBytes();
      exchange.getResponseHeaders().set("x-digest", digestOf(body));
      exchange.sendResponseHeaders(200, body.length);
      exchange.getResponseBody().write(body);
    }
  }

  static void serve(int port) throws IOException {
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 16);
    server.setExecutor(Executors.newFixedThreadPool(CLIENTS));
    server.createContext("/", HttpEcho::answer);
    server.start();
  }

  // As many requests at a time as there are clients, each with a connection that it keeps.
  static long converse(int port, int rounds, int seed) {
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    Random made = new Random(seed);
    long total = 0;
    for (int round = 0; round < rounds || !Files.exists(SEEN); ++round) {
      for (int size : SIZES) {
        byte[] body = new byte[size];
        made.nextBytes(body);
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port + "/"))
            .timeout(Duration.ofSeconds(30)).POST(BodyPublishers.ofByteArray(body)).build();
        var response = client.sendAsync(request, BodyHandlers.ofByteArray()).join();
        if (!response.headers().firstValue("x-digest").orElse("").equals(digestOf(body))) {
          throw new IllegalStateException("another body arrived");
        }
        if (!Arrays.equals(response.body(), body)) {
          throw new IllegalStateException("another body came back");
        }
        total += size;
      }
    }
    return total;
  }

  static void talk(int port, int rounds) {
    var threads = Executors.newFixedThreadPool(CLIENTS);
    List<CompletableFuture<Long>> all = new ArrayList<>();
    for (int seed = 0; seed < CLIENTS; ++seed) {
      int own = seed;
      all.add(CompletableFuture.supplyAsync(() -> converse(port, rounds, own), threads));
    }
    long total = 0;
    for (var one : all) total += one.join();
    System.out.println("bytes " + total);
    System.exit(0);
  }

  public static void main(String[] words) throws IOException {
    int port = Integer.parseInt(words[1]);
    if (words[0].equals("serve")) serve(port);
    else talk(port, Integer.parseInt(words[2]));
  }
}
