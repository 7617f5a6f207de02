// Which rows of a long table are drawn, and where columns stand.

export interface Span {
  from: number;
  to: number;
}

/** The rows to draw: those that can be seen, and some around them. */
export function visible(scrollTop: number, height: number, rowHeight: number, count: number, around = 10): Span {
  const first = Math.floor(scrollTop / rowHeight) - around;
  const last = Math.ceil((scrollTop + height) / rowHeight) + around;
  return { from: Math.max(0, Math.min(first, count)), to: Math.max(0, Math.min(last, count)) };
}

/** The scroll position that shows a row, nearest to the one that is. */
export function reveal(index: number, scrollTop: number, height: number, rowHeight: number): number {
  const top = index * rowHeight;
  if (top < scrollTop) return top;
  if (top + rowHeight > scrollTop + height) return top + rowHeight - height;
  return scrollTop;
}

/** The pages that a span of rows is made of. */
export function pagesOf({ from, to }: Span, size: number): number[] {
  if (to <= from) return [];
  const first = Math.floor(from / size);
  return Array.from({ length: Math.floor((to - 1) / size) - first + 1 }, (_, i) => first + i);
}

/** How a reader has arranged a table: this is part of its address. */
export interface Layout {
  /** Ids of the columns that are shown, in their order. */
  columns: readonly string[];
  /** How many of them, from the left, stay while the rest scrolls sideways. */
  pinned: number;
  /** Widths in pixels, where they were changed. */
  widths: Readonly<Record<string, number>>;
}

/** A layout as text: `run_name:240,status|metrics.loss`; what is before `|` is pinned. */
export function layoutText(layout: Layout): string {
  const one = (id: string): string => encodeURIComponent(id) + (layout.widths[id] ? `:${Math.round(layout.widths[id]!)}` : "");
  const pinned = layout.columns.slice(0, layout.pinned).map(one).join(",");
  const rest = layout.columns.slice(layout.pinned).map(one).join(",");
  return layout.pinned > 0 ? `${pinned}|${rest}` : rest;
}

/** The layout of a text; null if it has no columns. */
export function layoutOf(text: string | null): Layout | null {
  if (!text) return null;
  const widths: Record<string, number> = {};
  const bar = text.indexOf("|");
  const read = (part: string): string[] =>
    part.split(",").filter(Boolean).flatMap((word) => {
      const [name, width] = word.split(":") as [string, string | undefined];
      try {
        const id = decodeURIComponent(name);
        if (width && /^\d{1,4}$/.test(width)) widths[id] = Math.min(Math.max(Number(width), 40), 2000);
        return [id];
      } catch {
        return [];
      }
    });
  const pinned = bar < 0 ? [] : read(text.slice(0, bar));
  const columns = [...new Set([...pinned, ...read(text.slice(bar + 1))])];
  return columns.length ? { columns, pinned: pinned.length, widths } : null;
}

/** A column moved to before another one, or to the end. */
export function moved(columns: readonly string[], id: string, before: string | null): string[] {
  const rest = columns.filter((one) => one !== id);
  const at = before === null ? rest.length : rest.indexOf(before);
  return at < 0 ? [...columns] : [...rest.slice(0, at), id, ...rest.slice(at)];
}
