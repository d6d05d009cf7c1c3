package com.example.userstore;

import io.grpc.Status;
import java.sql.SQLException;
import java.sql.SQLTransientConnectionException;
import java.util.Set;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** What an error of the database means to the caller, and what of it may be logged. */
final class DatabaseErrors {
  private static final String UNIQUE_VIOLATION = "23505";

  /** By constraint, not by guess: the primary key is unique too. */
  private static final String EMAIL_ADDRESS_KEY = "users_email_address_key";

  /**
   * Classes of SQLSTATE whose messages have no value of a user to quote: connection, login, no such
   * database, no such table or column, no resources, operator intervention.
   */
  private static final Set<String> FIT_FOR_A_LOG = Set.of("08", "28", "3D", "42", "53", "57");

  private DatabaseErrors() {}

  static Status status(SQLException error) {
    if (UNIQUE_VIOLATION.equals(error.getSQLState())
        && EMAIL_ADDRESS_KEY.equals(constraint(error))) {
      return Status.ALREADY_EXISTS.withDescription("email address taken");
    }
    Status status =
        switch (String.valueOf(error.getSQLState())) {
          // Serialization failure, deadlock, lock wait over: nothing was changed.
          case "40001", "40P01", "55P03" -> Status.ABORTED;
          // Never NOT_FOUND: Faroe would take it for the truth, and sign people out.
          default -> Status.INTERNAL;
        };
    return status.withDescription(describe(error));
  }

  /** The code always, the message where it cannot quote a value of a user, details never. */
  static String describe(SQLException error) {
    String state = String.valueOf(error.getSQLState());
    String constraint = constraint(error);
    StringBuilder text = new StringBuilder("SQLSTATE ").append(state);
    if (constraint != null) {
      text.append(" (").append(constraint).append(')');
    }
    // The pool's own error, that no connection came free in time, may have no code.
    if (error instanceof SQLTransientConnectionException
        || FIT_FOR_A_LOG.stream().anyMatch(state::startsWith)) {
      ServerErrorMessage server = serverError(error);
      text.append(": ").append(server == null ? error.getMessage() : server.getMessage());
    }
    // The pool has the reason why there is no connection as the cause.
    if (error.getCause() instanceof SQLException cause) {
      text.append("; ").append(describe(cause));
    }
    return text.toString();
  }

  private static String constraint(SQLException error) {
    ServerErrorMessage server = serverError(error);
    return server == null ? null : server.getConstraint();
  }

  private static ServerErrorMessage serverError(SQLException error) {
    return error instanceof PSQLException postgres ? postgres.getServerErrorMessage() : null;
  }
}
