// The live connection: one stream of server-sent events for the whole page, which resumes by itself.
// What was on screen stays while it is away; `liveState` says so.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { get } from "./api.ts";

export type LiveState = "off" | "connecting" | "live" | "reconnecting";

/** How the connection is. "reconnecting": the server is away or restarting. */
export const liveState = signal<LiveState>("off");

/** Milliseconds from the log to this page, as the server measured it last. */
export const lagMs = signal<number | null>(null);

/** The server's clock minus the browser's, in milliseconds: the browser's may be an hour off. */
export const clockOffsetMs = signal(0);

export interface RunsGrew {
  run_ids: string[];
  ended: string[];
  created: string[];
}

export type LiveEvent = Record<string, unknown>;

export interface Interest {
  /** Runs to hear of; all that the caller may read if neither runs nor experiments are named. */
  runs?: readonly string[];
  experiments?: readonly string[];
  /** Also events of the registry. */
  registry?: boolean;
  /** Each event of the log in short. */
  tail?: boolean;
}

export interface Listener {
  runs?: (grew: RunsGrew) => void;
  registry?: (event: LiveEvent) => void;
  tail?: (event: LiveEvent) => void;
  /** After an interruption: ask again for what is on screen. */
  resumed?: () => void;
}

const RETRY_MS = [500, 1_000, 2_000, 5_000, 10_000];

/** Hear of what happens while the component is shown; null listens to nothing, as in the past. */
export function useLive(interest: Interest | null, listener: Listener): void {
  const latest = useRef(listener);
  latest.current = listener;
  const key = interest === null ? null : JSON.stringify(interest);
  useEffect(() => {
    if (key === null) return;
    return listen(JSON.parse(key) as Interest, () => latest.current);
  }, [key]);
}

function listen(interest: Interest, listener: () => Listener): () => void {
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let tries = 0;
  let last: string | null = null;
  let wasAway = false;
  let closed = false;

  function address(): string {
    const query = new URLSearchParams();
    if (interest.runs) query.set("runs", interest.runs.join(","));
    if (interest.experiments) query.set("experiments", interest.experiments.join(","));
    if (interest.registry) query.set("registry", "true");
    if (interest.tail) query.set("tail", "true");
    if (last) query.set("after", last);
    return `/api/v1/live?${query.toString()}`;
  }

  function open(): void {
    liveState.value = wasAway ? "reconnecting" : "connecting";
    source = new EventSource(address());
    const on = (name: string, act: (data: LiveEvent) => void): void =>
      source!.addEventListener(name, (event) => {
        if (event.lastEventId) last = event.lastEventId;
        act(JSON.parse((event as MessageEvent<string>).data || "{}") as LiveEvent);
      });
    on("hello", (data) => {
      tries = 0;
      liveState.value = "live";
      heard(data);
      if (wasAway) listener().resumed?.();
      wasAway = false;
    });
    on("beat", heard);
    on("runs", (data) => listener().runs?.({ run_ids: [], ended: [], created: [], ...data }));
    on("registry", (data) => listener().registry?.(data));
    on("tail", (data) => listener().tail?.(data));
    source.onerror = () => {
      // The browser's own retry loses our place after some errors: close it, and open another.
      source?.close();
      if (closed) return;
      wasAway = true;
      liveState.value = "reconnecting";
      timer = setTimeout(retry, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
    };
  }

  function retry(): void {
    // EventSource does not tell why it failed: this request does, and shows the sign-in page for a 401.
    get("/api/v1/whoami").then(open, (error: { status?: number }) => {
      if (closed || error.status === 401) return;
      timer = setTimeout(retry, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
    });
  }

  function heard(data: LiveEvent): void {
    if (typeof data.lag_ms === "number") lagMs.value = data.lag_ms;
    if (typeof data.time === "string") clockOffsetMs.value = Date.parse(data.time) - Date.now();
  }

  open();
  return () => {
    closed = true;
    clearTimeout(timer);
    source?.close();
    liveState.value = "off";
  };
}
