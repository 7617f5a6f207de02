// The rows of a long table, asked for in pages as they come into sight.
import { useSignal, useSignalEffect } from "@preact/signals";
import { useCallback, useEffect, useMemo, useRef } from "preact/hooks";
import { ApiError, writes } from "../client/api.ts";
import { pagesOf, type Span } from "../pure/window.ts";

export interface Part<Row, More> {
  rows: readonly Row[];
  /** How many rows there are in all. */
  count: number;
  /** What else the answer says. */
  more: More;
}

export interface Rows<Row, More> {
  /** Null until the first answer. */
  count: number | null;
  /** A row, or null while it is on its way. */
  at: (index: number) => Row | null;
  /** Say which rows are in sight. */
  want: (span: Span) => void;
  more: More | null;
  error: ApiError | null;
  /** When the last good answer came. */
  since: Date | null;
  /** True while the first page of a new question is on its way; the rows are those of the one before. */
  waiting: boolean;
  /** Ask again for what is in sight. */
  again: () => void;
}

interface State<Row, More> {
  count: number | null;
  pages: ReadonlyMap<number, readonly Row[]>;
  more: More | null;
  error: ApiError | null;
  since: Date | null;
  waiting: boolean;
}

const KEPT_PAGES = 40;

/**
 * Ask for rows in pages of `size`, again when `key` changes.
 *
 * The rows of the old key stay until those of the new one are here, so the table is never blank.
 */
export function useRows<Row, More>(
  key: string | null,
  load: (offset: number, limit: number, signal: AbortSignal) => Promise<Part<Row, More>>,
  size = 200,
): Rows<Row, More> {
  const state = useSignal<State<Row, More>>({ count: null, pages: new Map(), more: null, error: null, since: null, waiting: true });
  const latest = useRef(load);
  latest.current = load;
  const sight = useRef<Span>({ from: 0, to: 1 });
  const asked = useRef(new Map<number, AbortController>());

  const ask = useCallback((page: number, fresh: boolean) => {
    asked.current.get(page)?.abort();
    const mine = new AbortController();
    asked.current.set(page, mine);
    latest.current(page * size, size, mine.signal).then(
      (part) => {
        if (mine.signal.aborted) return;
        asked.current.delete(page);
        const now = state.peek();
        // The first answer to a new question replaces all that is there.
        const pages = new Map(fresh && now.waiting ? [] : now.pages);
        pages.set(page, part.rows);
        for (const old of pages.keys()) {
          if (pages.size <= KEPT_PAGES) break;
          if (Math.abs(old - page) > 2) pages.delete(old);
        }
        state.value = { count: part.count, pages, more: part.more, error: null, since: new Date(), waiting: false };
      },
      (error: unknown) => {
        if (mine.signal.aborted) return;
        asked.current.delete(page);
        if (!(error instanceof ApiError)) console.error(error);
        const said = error instanceof ApiError ? error : new ApiError(0, { message: String(error) }, null);
        state.value = { ...state.peek(), error: said, waiting: false };
      },
    );
  }, [key]);

  const again = useCallback(() => {
    for (const controller of asked.current.values()) controller.abort();
    asked.current.clear();
    if (key === null) return;
    state.value = { ...state.peek(), waiting: true };
    for (const page of pagesOf(sight.current, size)) ask(page, true);
  }, [ask]);

  useEffect(() => {
    sight.current = { from: 0, to: 1 };
    again();
    return () => {
      for (const controller of asked.current.values()) controller.abort();
      asked.current.clear();
    };
  }, [again]);

  const want = useCallback((span: Span) => {
    sight.current = span;
    const now = state.peek();
    if (now.waiting || now.count === null) return;
    const pages = pagesOf({ from: span.from, to: Math.min(span.to, now.count) }, size);
    for (const [page, controller] of asked.current) {
      if (pages.includes(page)) continue;
      controller.abort(); // scrolled past
      asked.current.delete(page);
    }
    for (const page of pages) if (!now.pages.has(page) && !asked.current.has(page)) ask(page, false);
  }, [ask]);

  const seen = useRef(writes.peek());
  useSignalEffect(() => {
    if (writes.value === seen.current) return;
    seen.current = writes.value;
    again();
  });

  const { pages, ...rest } = state.value;
  const at = useMemo(() => (index: number): Row | null => pages.get(Math.floor(index / size))?.[index % size] ?? null, [pages]);
  useEffect(() => want(sight.current), [pages]);
  return { ...rest, at, want, again };
}
