package com.example.userstore;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import faroe.userstore.v1.UserStoreGrpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.services.HealthStatusManager;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.postgresql.ds.PGSimpleDataSource;

/** Puts the parts together: the database, its table, the pool, the server; and takes them apart. */
public final class Main {
  private static final int CONNECTIONS = 10;

  public static void main(String[] args) throws InterruptedException {
    System.setProperty("java.util.logging.SimpleFormatter.format", "%4$s %3$s: %5$s%6$s%n");
    try {
      DataSource database = database(System.getenv("DATABASE_URL"));
      InetSocketAddress address = address(System.getenv("LISTEN"));
      createTable(database);
      serve(database, address);
    } catch (IllegalArgumentException wrong) {
      fail(2, wrong.getMessage());
    } catch (SQLException failed) {
      fail(1, "the database cannot be used: " + DatabaseErrors.describe(failed));
    } catch (IOException failed) {
      fail(1, "cannot listen: " + failed.getMessage());
    }
  }

  private static void serve(DataSource database, InetSocketAddress address)
      throws IOException, InterruptedException {
    HikariDataSource pool = pool(database);
    HealthStatusManager health = new HealthStatusManager();
    Server server =
        NettyServerBuilder.forAddress(address, InsecureServerCredentials.create())
            .addService(new PostgresUserStore(pool))
            .addService(health.getHealthService())
            .build()
            .start();
    health.setStatus(UserStoreGrpc.SERVICE_NAME, ServingStatus.SERVING);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(server, health, pool)));
    System.out.println("listening on " + shown(server.getListenSockets().get(0)));
    server.awaitTermination();
  }

  /** On SIGTERM and SIGINT: no more calls are taken, those in hand are finished. */
  private static void stop(Server server, HealthStatusManager health, HikariDataSource pool) {
    health.enterTerminalState();
    server.shutdown();
    try {
      if (!server.awaitTermination(20, TimeUnit.SECONDS)) {
        server.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
      }
    } catch (InterruptedException interrupted) {
      server.shutdownNow();
    }
    pool.close();
    // What was asked for has been done; the JVM's own code for an end by signal is 143.
    Runtime.getRuntime().halt(0);
  }

  /** The messages say nothing of the URL, of which a password may be part. */
  private static DataSource database(String url) {
    // A name before the host is not JDBC's way; the driver would log it as part of the address.
    if (url == null || !url.matches("jdbc:postgresql:[^@?]*(\\?.*)?")) {
      throw new IllegalArgumentException(
          "DATABASE_URL has to be jdbc:postgresql://HOST:PORT/DATABASE?user=USER&password=PASSWORD");
    }
    PGSimpleDataSource database = new PGSimpleDataSource();
    try {
      database.setURL(url);
    } catch (IllegalArgumentException wrong) {
      throw new IllegalArgumentException("DATABASE_URL is not a URL that the driver can read");
    }
    // Details quote values, and the pool logs errors as they are.
    database.setLogServerErrorDetail(false);
    if (database.getSocketTimeout() == 0) {
      // Seconds. A database that says nothing any more must not keep its connections for ever.
      database.setSocketTimeout(30);
    }
    return database;
  }

  private static HikariDataSource pool(DataSource database) {
    HikariConfig config = new HikariConfig();
    config.setDataSource(database);
    config.setMaximumPoolSize(CONNECTIONS);
    // Milliseconds to wait for a connection; the sidecar waits five seconds for the whole call.
    config.setConnectionTimeout(3000);
    return new HikariDataSource(config);
  }

  private static void createTable(DataSource database) throws IOException, SQLException {
    try (InputStream schema = Main.class.getResourceAsStream("/schema.sql");
        Connection connection = database.getConnection();
        Statement statement = connection.createStatement()) {
      connection.setAutoCommit(false);
      statement.execute(new String(schema.readAllBytes(), StandardCharsets.UTF_8));
      connection.commit();
    }
  }

  private static InetSocketAddress address(String listen) {
    try {
      URI uri = new URI("tcp://" + (listen == null ? "127.0.0.1:50051" : listen));
      if (uri.getHost() != null && uri.getPort() != -1) {
        return new InetSocketAddress(uri.getHost(), uri.getPort());
      }
    } catch (URISyntaxException | IllegalArgumentException wrong) {
      // Said below.
    }
    throw new IllegalArgumentException("LISTEN has to be ADDRESS:PORT");
  }

  private static String shown(SocketAddress address) {
    InetSocketAddress bound = (InetSocketAddress) address;
    String host = bound.getAddress().getHostAddress();
    return (host.contains(":") ? "[" + host + "]" : host) + ":" + bound.getPort();
  }

  private static void fail(int code, String message) {
    System.err.println("user-store: " + message);
    System.exit(code);
  }
}
