// What each of the seven stores does. What they have in common is done once, in service.ts.

export interface User extends NewUser {
  disabled: boolean;
  displayName: string;
  emailAddressCounter: number;
  passwordHashCounter: number;
  disabledCounter: number;
  sessionsCounter: number;
}

export interface NewUser extends Password {
  id: string;
  emailAddress: string;
}

export interface Password {
  passwordHash: Buffer;
  passwordHashAlgorithmId: string;
  passwordSalt: Buffer;
}

// Each method is one statement, which the database makes atomic and durable. What the driver throws
// goes through, and `problem` says what it means.
export interface Store {
  // Disabled, display name and counters have the defaults of their columns.
  insert(user: NewUser): Promise<unknown>;
  find(id: string): Promise<User | undefined>;
  findByEmailAddress(emailAddress: string): Promise<User | undefined>;

  // Compare and set: where the user still has `counter`, changes the row and adds 1 to it. These
  // give the number of rows that were changed, 0 or 1.
  updateEmailAddress(id: string, emailAddress: string, counter: number): Promise<number>;
  updatePassword(id: string, password: Password, counter: number): Promise<number>;
  incrementSessions(id: string, counter: number): Promise<number>;
  delete(id: string): Promise<number>;

  problem(error: unknown): Problem;
  close(): Promise<void>;
}

export interface Problem {
  // conflict: a serialization failure, a deadlock, a lock that was waited for in vain.
  kind: "email address taken" | "conflict" | "failure";
  // The database's code. Its message may quote values, and stays out of statuses and logs.
  code: string;
}
