// An answer of the server as state: waiting, here, failed; the last good data stays while it is renewed.
import { useSignal, useSignalEffect } from "@preact/signals";
import { useCallback, useEffect, useRef } from "preact/hooks";
import { ApiError, writes } from "../client/api.ts";

export interface Answer<T> {
  /** The last good answer. Null: none yet. */
  data: T | null;
  /** Why the last request failed; the data beside it is then older. */
  error: ApiError | null;
  /** When `data` came. */
  at: Date | null;
  /** True while a request is under way. */
  waiting: boolean;
  /** Ask again. */
  again: () => void;
}

/**
 * Ask the server, again when `key` changes and after each write of this page.
 *
 * `key` names the question: everything that `load` depends on. A null key asks nothing. With a new
 * key the data of the old one stays until the answer comes, unless `fresh`.
 */
export function useAnswer<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  { fresh = false } = {},
): Answer<T> {
  const state = useSignal<Omit<Answer<T>, "again">>({ data: null, error: null, at: null, waiting: key !== null });
  const asked = useRef<AbortController | null>(null);
  const latest = useRef(load);
  latest.current = load;

  const again = useCallback(() => {
    asked.current?.abort();
    if (key === null) return;
    const mine = new AbortController();
    asked.current = mine;
    state.value = { ...state.peek(), waiting: true };
    latest.current(mine.signal).then(
      (data) => {
        if (!mine.signal.aborted) state.value = { data, error: null, at: new Date(), waiting: false };
      },
      (error: unknown) => {
        if (mine.signal.aborted) return;
        if (!(error instanceof ApiError)) console.error(error);
        const said = error instanceof ApiError ? error : new ApiError(0, { message: String(error) }, null);
        state.value = { ...state.peek(), error: said, waiting: false };
      },
    );
  }, [key]);

  useEffect(() => {
    if (fresh) state.value = { data: null, error: null, at: null, waiting: key !== null };
    again();
    return () => asked.current?.abort();
  }, [key]);
  const seen = useRef(writes.peek());
  useSignalEffect(() => {
    if (writes.value === seen.current) return;
    seen.current = writes.value;
    again();
  });
  return { ...state.value, again };
}
