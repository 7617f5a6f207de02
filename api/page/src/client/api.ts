// Requests to the server: typed errors, its request id, and reads that see the caller's own writes.
import { signal } from "@preact/signals";

/** True once the server has answered 401: the frame then shows the sign-in page. */
export const signedOut = signal(false);

/** Counts the writes of this page, so that what is on screen can be asked for again. */
export const writes = signal(0);

/** Whether the last request reached the server. */
export const reachable = signal(true);

/** An answer that is an error, or no answer. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly requestId: string | null;
  readonly body: Record<string, unknown>;

  constructor(status: number, body: Record<string, unknown>, requestId: string | null) {
    super(typeof body.message === "string" ? body.message : `the server answered ${status}`);
    this.status = status; // 0: the server cannot be reached
    this.code = typeof body.error_code === "string" ? body.error_code : "UNKNOWN";
    this.requestId = requestId;
    this.body = body;
  }
}

export type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

export interface Asking {
  query?: Query;
  body?: unknown;
  signal?: AbortSignal;
  accept?: string;
  headers?: Record<string, string>;
}

/** After a write, reads wait for the log's end, for this long: another node may answer them. */
const OWN_WRITES_MS = 10_000;
let wroteAt = -Infinity;

/** Make a request. Throws an `ApiError`, or the `AbortError` of `signal`. */
export async function ask(method: string, path: string, asking: Asking = {}): Promise<Response> {
  const headers: Record<string, string> = {
    Accept: asking.accept ?? "application/json",
    "X-Requested-With": "modeltrail", // after a 401 our page asks for the password, not the browser
    ...asking.headers,
  };
  if (performance.now() - wroteAt < OWN_WRITES_MS) headers["X-Modeltrail-Consistency"] = "log";
  const init: RequestInit = { method, headers, credentials: "same-origin" };
  if (asking.signal) init.signal = asking.signal;
  if (asking.body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(asking.body);
  }
  let answer: Response;
  try {
    answer = await fetch(withQuery(path, asking.query), init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    reachable.value = false;
    const message = "the server cannot be reached; it may be restarting";
    throw new ApiError(0, { error_code: "UNREACHABLE", message }, null);
  }
  reachable.value = true;
  if (answer.ok) return answer;
  const body: unknown = await answer.json().catch(() => ({}));
  if (answer.status === 401 && path !== "/api/v1/session") signedOut.value = true;
  throw new ApiError(
    answer.status,
    typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {},
    answer.headers.get("x-request-id"),
  );
}

/** Read JSON. */
export async function get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> {
  const asking: Asking = {};
  if (query) asking.query = query;
  if (signal) asking.signal = signal;
  return (await (await ask("GET", path, asking)).json()) as T;
}

/** Read JSON by a request that needs a body, such as `/runs/query`. It changes nothing. */
export async function query<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  return (await (await ask("POST", path, signal ? { body, signal } : { body })).json()) as T;
}

async function write<T>(method: string, path: string, body?: unknown): Promise<T> {
  // A repeat after a lost answer takes effect once.
  const headers = { "Idempotency-Key": key() };
  const answer = await ask(method, path, body === undefined ? { headers } : { body, headers });
  wroteAt = performance.now();
  writes.value += 1;
  const text = await answer.text();
  return (text ? JSON.parse(text) : null) as T;
}

/** Write by POST. What is on screen is then asked for again. */
export const post = <T>(path: string, body?: unknown): Promise<T> => write<T>("POST", path, body);
export const put = <T>(path: string, body?: unknown): Promise<T> => write<T>("PUT", path, body);
export const patch = <T>(path: string, body?: unknown): Promise<T> => write<T>("PATCH", path, body);
export const remove = <T>(path: string, body?: unknown): Promise<T> => write<T>("DELETE", path, body);

/** A path with its query; null and undefined are left out, a list is repeated. */
export function withQuery(path: string, query: Query = {}): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined) continue;
    if (Array.isArray(value)) for (const one of value) found.append(name, String(one));
    else found.set(name, String(value));
  }
  const text = found.toString();
  return text ? `${path}?${text}` : path;
}

function key(): string {
  // crypto.randomUUID is missing where the page comes by plain http from another machine.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
