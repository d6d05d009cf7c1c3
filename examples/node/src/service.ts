// The gRPC service, on top of one of the stores.

import { randomBytes } from "node:crypto";

import { type handleUnaryCall, status } from "@grpc/grpc-js";

import type { UserStoreHandlers } from "./generated/faroe/userstore/v1/UserStore.js";
import type { Password, Problem, Store, User } from "./store.js";

export function userStore(store: Store): UserStoreHandlers {
  const unary = unaryOn(store);
  return {
    CreateUser: unary(async (request) => {
      const user = {
        id: randomBytes(20).toString("hex"), // so many bits that none comes twice
        emailAddress: request.emailAddress,
        ...password(request),
      };
      await store.insert(user);
      return { user }; // what is left out is false, empty, or 0 on the wire
    }),

    GetUser: unary(async ({ userId }) => {
      return { user: found(await store.find(userId)) };
    }),

    GetUserByEmailAddress: unary(async ({ emailAddress }) => {
      return { user: found(await store.findByEmailAddress(emailAddress)) };
    }),

    UpdateUserEmailAddress: unary(async (request) => {
      const { userId, emailAddress, userEmailAddressCounter: counter } = request;
      return changed(await store.updateEmailAddress(userId, emailAddress, counter));
    }),

    UpdateUserPasswordHash: unary(async (request) => {
      const { userId, userPasswordHashCounter: counter } = request;
      return changed(await store.updatePassword(userId, password(request), counter));
    }),

    IncrementUserSessionsCounter: unary(async ({ userId, userSessionsCounter }) => {
      return changed(await store.incrementSessions(userId, userSessionsCounter));
    }),

    DeleteUser: unary(async ({ userId }) => {
      return changed(await store.delete(userId));
    }),
  };
}

// Nothing but the password of a request that has more.
function password({ passwordHash, passwordHashAlgorithmId, passwordSalt }: Password): Password {
  return { passwordHash, passwordHashAlgorithmId, passwordSalt };
}

class NotFound extends Error {}

function found(user: User | undefined): User {
  if (user === undefined) throw new NotFound();
  return user;
}

function changed(rows: number): {} {
  if (rows === 0) throw new NotFound();
  return {};
}

const CODES: Record<Problem["kind"], status> = {
  "email address taken": status.ALREADY_EXISTS,
  conflict: status.ABORTED,
  failure: status.INTERNAL,
};

// Makes handlers out of methods. No message of an error goes further than this: they quote values.
function unaryOn(store: Store) {
  return <Request extends { actionInvocationId: string }, Response>(
    method: (request: Request) => Promise<Response>,
  ): handleUnaryCall<Request, Response> =>
    async (call, callback) => {
      try {
        callback(null, await method(call.request));
      } catch (error) {
        if (error instanceof NotFound) {
          const details = "no such user, or the counter does not match";
          callback({ code: status.NOT_FOUND, details });
          return;
        }
        const { kind, code } = store.problem(error);
        if (kind === "failure") {
          const { actionInvocationId } = call.request;
          console.error(JSON.stringify({ call: call.getPath(), actionInvocationId, error: code }));
        }
        callback({ code: CODES[kind], details: `${kind} (${code})` });
      }
    };
}
