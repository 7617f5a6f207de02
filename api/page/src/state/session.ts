// Who is signed in, and what they may do: from `GET /api/v1/whoami`.
import { signal } from "@preact/signals";
import { ApiError, get, post, remove, signedOut } from "../client/api.ts";

export interface Me {
  actor: string;
  verified: boolean;
  /** False if the server runs without --auth: then everyone may do everything, under any name. */
  auth: boolean;
  may: Record<"admin" | "read_everything" | "sql" | "create_experiments" | "create_models", boolean>;
}

/** The caller; null until the server has answered, or when the session has ended. */
export const me = signal<Me | null>(null);

/** Whether the caller may do something; true until it is known, as the server refuses what is not allowed. */
export function may(what: keyof Me["may"]): boolean {
  return me.value?.may[what] ?? true;
}

/** Ask the server who we are. */
export async function meet(): Promise<void> {
  try {
    me.value = await get<Me>("/api/v1/whoami");
    signedOut.value = false;
  } catch (error) {
    // 401 shows the sign-in page; anything else shows on the page that is open.
    if (!(error instanceof ApiError)) throw error;
  }
}

/** Sign in. Throws an `ApiError` for a wrong name or password. */
export async function signIn(user: string, password: string): Promise<void> {
  await post("/api/v1/session", { user, password });
  await meet();
}

/** End the session, here and on the server. */
export async function signOut(): Promise<void> {
  await remove("/api/v1/session");
  me.value = null;
  signedOut.value = true;
}
