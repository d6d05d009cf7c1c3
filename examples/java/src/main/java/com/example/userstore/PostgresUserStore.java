package com.example.userstore;

import faroe.userstore.v1.UserStoreGrpc;
import faroe.userstore.v1.UserStoreOuterClass.CreateUserRequest;
import faroe.userstore.v1.UserStoreOuterClass.CreateUserResponse;
import faroe.userstore.v1.UserStoreOuterClass.DeleteUserRequest;
import faroe.userstore.v1.UserStoreOuterClass.DeleteUserResponse;
import faroe.userstore.v1.UserStoreOuterClass.GetUserByEmailAddressRequest;
import faroe.userstore.v1.UserStoreOuterClass.GetUserByEmailAddressResponse;
import faroe.userstore.v1.UserStoreOuterClass.GetUserRequest;
import faroe.userstore.v1.UserStoreOuterClass.GetUserResponse;
import faroe.userstore.v1.UserStoreOuterClass.IncrementUserSessionsCounterRequest;
import faroe.userstore.v1.UserStoreOuterClass.IncrementUserSessionsCounterResponse;
import faroe.userstore.v1.UserStoreOuterClass.UpdateUserEmailAddressRequest;
import faroe.userstore.v1.UserStoreOuterClass.UpdateUserEmailAddressResponse;
import faroe.userstore.v1.UserStoreOuterClass.UpdateUserPasswordHashRequest;
import faroe.userstore.v1.UserStoreOuterClass.UpdateUserPasswordHashResponse;
import faroe.userstore.v1.UserStoreOuterClass.User;
import com.google.protobuf.ByteString;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.stub.StreamObserver;
import java.security.SecureRandom;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.HexFormat;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.logging.Logger;
import javax.sql.DataSource;

/**
 * Users in the table of schema.sql. Each method is one statement, which PostgreSQL makes atomic by
 * itself: whether an address is free is decided by the unique constraint, and whether a counter
 * still has its value by the WHERE of the update.
 */
final class PostgresUserStore extends UserStoreGrpc.UserStoreImplBase {
  private static final Logger log = Logger.getLogger("user-store");

  private static final String COLUMNS =
      "id, email_address, password_hash, password_hash_algorithm_id, password_salt, disabled,"
          + " display_name, email_address_counter, password_hash_counter, disabled_counter,"
          + " sessions_counter";

  private final DataSource database;
  private final SecureRandom random = new SecureRandom();

  /** Telling the database to stop waits for the database, and gRPC's threads must not. */
  private final Executor cancelling = Executors.newCachedThreadPool();

  PostgresUserStore(DataSource database) {
    this.database = database;
  }

  @Override
  public void createUser(CreateUserRequest request, StreamObserver<CreateUserResponse> observer) {
    answer(request.getActionInvocationId(), observer, () -> {
      User user = user(
          "INSERT INTO users (id, email_address, password_hash, password_hash_algorithm_id,"
              + " password_salt) VALUES (?, ?, ?, ?, ?) RETURNING " + COLUMNS,
          newId(), request.getEmailAddress(), request.getPasswordHash(),
          request.getPasswordHashAlgorithmId(), request.getPasswordSalt());
      return CreateUserResponse.newBuilder().setUser(user).build();
    });
  }

  @Override
  public void getUser(GetUserRequest request, StreamObserver<GetUserResponse> observer) {
    answer(request.getActionInvocationId(), observer, () -> {
      User user = user("SELECT " + COLUMNS + " FROM users WHERE id = ?", request.getUserId());
      return GetUserResponse.newBuilder().setUser(user).build();
    });
  }

  @Override
  public void getUserByEmailAddress(
      GetUserByEmailAddressRequest request,
      StreamObserver<GetUserByEmailAddressResponse> observer) {
    answer(request.getActionInvocationId(), observer, () -> {
      User user = user(
          "SELECT " + COLUMNS + " FROM users WHERE email_address = ?", request.getEmailAddress());
      return GetUserByEmailAddressResponse.newBuilder().setUser(user).build();
    });
  }

  @Override
  public void updateUserEmailAddress(
      UpdateUserEmailAddressRequest request,
      StreamObserver<UpdateUserEmailAddressResponse> observer) {
    answer(request.getActionInvocationId(), observer, () -> {
      change(
          "UPDATE users SET email_address = ?, email_address_counter = email_address_counter + 1"
              + " WHERE id = ? AND email_address_counter = ?",
          request.getEmailAddress(), request.getUserId(), request.getUserEmailAddressCounter());
      return UpdateUserEmailAddressResponse.getDefaultInstance();
    });
  }

  @Override
  public void updateUserPasswordHash(
      UpdateUserPasswordHashRequest request,
      StreamObserver<UpdateUserPasswordHashResponse> observer) {
    answer(request.getActionInvocationId(), observer, () -> {
      change(
          "UPDATE users SET password_hash = ?, password_hash_algorithm_id = ?, password_salt = ?,"
              + " password_hash_counter = password_hash_counter + 1"
              + " WHERE id = ? AND password_hash_counter = ?",
          request.getPasswordHash(), request.getPasswordHashAlgorithmId(),
          request.getPasswordSalt(), request.getUserId(), request.getUserPasswordHashCounter());
      return UpdateUserPasswordHashResponse.getDefaultInstance();
    });
  }

  @Override
  public void incrementUserSessionsCounter(
      IncrementUserSessionsCounterRequest request,
      StreamObserver<IncrementUserSessionsCounterResponse> observer) {
    answer(request.getActionInvocationId(), observer, () -> {
      change(
          "UPDATE users SET sessions_counter = sessions_counter + 1"
              + " WHERE id = ? AND sessions_counter = ?",
          request.getUserId(), request.getUserSessionsCounter());
      return IncrementUserSessionsCounterResponse.getDefaultInstance();
    });
  }

  @Override
  public void deleteUser(DeleteUserRequest request, StreamObserver<DeleteUserResponse> observer) {
    answer(request.getActionInvocationId(), observer, () -> {
      change("DELETE FROM users WHERE id = ?", request.getUserId());
      return DeleteUserResponse.getDefaultInstance();
    });
  }

  /** The one user that a statement gives. */
  private User user(String sql, Object... values) throws SQLException, StatusException {
    return run(sql, values, statement -> {
      try (ResultSet row = statement.executeQuery()) {
        if (!row.next()) {
          throw notFound();
        }
        return User.newBuilder()
            .setId(row.getString("id"))
            .setEmailAddress(row.getString("email_address"))
            .setPasswordHash(ByteString.copyFrom(row.getBytes("password_hash")))
            .setPasswordHashAlgorithmId(row.getString("password_hash_algorithm_id"))
            .setPasswordSalt(ByteString.copyFrom(row.getBytes("password_salt")))
            .setDisabled(row.getBoolean("disabled"))
            .setDisplayName(row.getString("display_name"))
            .setEmailAddressCounter(row.getInt("email_address_counter"))
            .setPasswordHashCounter(row.getInt("password_hash_counter"))
            .setDisabledCounter(row.getInt("disabled_counter"))
            .setSessionsCounter(row.getInt("sessions_counter"))
            .build();
      }
    });
  }

  /** Changes the one user that a statement names, with the counter that it names. */
  private void change(String sql, Object... values) throws SQLException, StatusException {
    int changed = run(sql, values, PreparedStatement::executeUpdate);
    if (changed == 0) {
      throw notFound();
    }
  }

  private static StatusException notFound() {
    return Status.NOT_FOUND
        .withDescription("no such user, or the counter does not match")
        .asException();
  }

  /** What is done with a statement: it is executed, and its result is read. */
  private interface Use<T> {
    T of(PreparedStatement statement) throws SQLException, StatusException;
  }

  /** Runs one statement, which ends early when the call is cancelled or its time is over. */
  private <T> T run(String sql, Object[] values, Use<T> use) throws SQLException, StatusException {
    Context call = Context.current();
    try (Connection connection = database.getConnection();
        PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) {
        Object value = values[i] instanceof ByteString bytes ? bytes.toByteArray() : values[i];
        statement.setObject(i + 1, value);
      }
      if (call.isCancelled()) {
        throw callIsOver();
      }
      Context.CancellationListener stop = over -> cancel(statement);
      call.addListener(stop, cancelling);
      try {
        return use.of(statement);
      } finally {
        // The connection goes back to the pool, where the next call must not be cancelled.
        call.removeListener(stop);
      }
    }
  }

  /** Nobody is there to hear it. */
  private static StatusException callIsOver() {
    return Status.CANCELLED.withDescription("the call is over").asException();
  }

  private static void cancel(PreparedStatement statement) {
    try {
      statement.cancel();
    } catch (SQLException error) {
      log.warning("a statement could not be cancelled: " + DatabaseErrors.describe(error));
    }
  }

  private interface Method<T> {
    T run() throws SQLException, StatusException;
  }

  /** Runs a method, and answers with what it returns or with the status that its error means. */
  private static <T> void answer(String invocation, StreamObserver<T> observer, Method<T> method) {
    T response;
    try {
      response = method.run();
    } catch (StatusException answer) {
      observer.onError(answer);
      return;
    } catch (SQLException error) {
      if (Context.current().isCancelled()) {
        observer.onError(callIsOver());
        return;
      }
      Status status = DatabaseErrors.status(error);
      if (status.getCode() != Status.Code.ALREADY_EXISTS) {
        log.warning(invocation + ": " + DatabaseErrors.describe(error));
      }
      observer.onError(status.asException());
      return;
    }
    observer.onNext(response);
    observer.onCompleted();
  }

  /** 128 random bits: never used again, not even after the user was deleted. */
  private String newId() {
    byte[] id = new byte[16];
    random.nextBytes(id);
    return HexFormat.of().formatHex(id);
  }
}
