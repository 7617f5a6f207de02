// A table of any length: only the rows in sight are drawn. A grid for readers and for keys (j k x, Enter);
// columns can be resized, moved and pinned; its head stays.
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";
import { moved, reveal, visible, type Layout, type Span } from "../pure/window.ts";
import { useKeys } from "../state/keys.ts";
import { Icon } from "./icon.tsx";

export interface Column<Row> {
  id: string;
  title: ComponentChildren;
  /** For readers and menus, where `title` is not text. */
  name?: string;
  cell: (row: Row, index: number) => ComponentChildren;
  /** In pixels. */
  width: number;
  /** Numbers stand right. */
  numeric?: boolean;
  sortable?: boolean;
  hint?: string;
}

export interface Order {
  column: string;
  descending: boolean;
}

export interface TableProps<Row> {
  /** What the rows are, as in "Runs". */
  label: string;
  columns: readonly Column<Row>[];
  count: number;
  /** A row; null while it is on its way. */
  at: (index: number) => Row | null;
  keyOf: (row: Row) => string;
  /** Told which rows are in sight. */
  want?: (span: Span) => void;
  order?: Order | null;
  onOrder?: (order: Order | null) => void;
  selected?: ReadonlySet<string>;
  /** Told which rows to select or deselect. Without it, rows have no boxes. */
  onSelect?: (rows: readonly Row[], on: boolean) => void;
  /** Called by Enter and a double click. */
  open?: (row: Row) => void;
  /** Arrangement of the columns; `onLayout` gets a changed one. */
  layout?: Layout | null;
  onLayout?: (layout: Layout) => void;
  rowClass?: (row: Row) => string;
  rowHeight?: number;
  /** Another value brings the table back to its first row: the question that it answers. */
  question?: string;
}

const BOX_WIDTH = 44;

export function Table<Row>(props: TableProps<Row>): JSX.Element {
  const { label, columns: all, count, at, keyOf, want, selected, onSelect, open, layout, onLayout, rowClass, question } = props;
  const natural = useRowHeight();
  const rowHeight = props.rowHeight ?? natural;
  const box = useRef<HTMLDivElement>(null);
  const [span, setSpan] = useState<Span>({ from: 0, to: Math.min(count, 60) });
  const [cursor, setCursor] = useState(0);
  const anchor = useRef<number | null>(null);

  const byId = new Map(all.map((column) => [column.id, column]));
  const shown = layout ? layout.columns.flatMap((id) => byId.get(id) ?? []) : all;
  const widths = shown.map((column) => layout?.widths[column.id] ?? column.width);
  const boxes = onSelect ? BOX_WIDTH : 0;
  const pinned = layout?.pinned ?? 1;
  const lefts = widths.reduce<number[]>((sums, width) => [...sums, sums[sums.length - 1]! + width], [boxes || 0]);
  const total = lefts[lefts.length - 1]! + 16;
  const template = `${boxes ? `${boxes}px ` : ""}${widths.map((width) => `${width}px`).join(" ")} minmax(16px, 1fr)`;

  const look = useCallback(() => {
    const element = box.current;
    if (!element) return;
    const next = visible(element.scrollTop, element.clientHeight, rowHeight, count);
    setSpan((old) => (old.from === next.from && old.to === next.to ? old : next));
    want?.(next);
  }, [count, rowHeight, want]);

  useLayoutEffect(look, [look]);
  useEffect(() => {
    const observer = new ResizeObserver(look);
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, [look]);
  useEffect(() => {
    if (box.current) box.current.scrollTop = 0;
    setCursor(0);
  }, [question]);

  function move(to: number): void {
    const index = Math.max(0, Math.min(to, count - 1));
    setCursor(index);
    const element = box.current;
    if (element) element.scrollTop = reveal(index, element.scrollTop, element.clientHeight - headHeight(element), rowHeight);
  }
  const page = (): number => Math.max(1, Math.floor((box.current?.clientHeight ?? 0) / rowHeight) - 2);
  function toggle(index: number, extend = false): void {
    if (!onSelect) return;
    const row = at(index);
    if (!row) return;
    const on = !selected?.has(keyOf(row));
    const from = extend && anchor.current !== null ? anchor.current : index;
    anchor.current = index;
    const rows: Row[] = [];
    for (let i = Math.min(from, index); i <= Math.max(from, index); i += 1) {
      const one = at(i);
      if (one) rows.push(one);
    }
    onSelect(rows, on);
  }
  const opened = (): void => {
    const row = at(cursor);
    if (row) open?.(row);
  };
  useKeys(label, [
    { key: "j", what: "Next row", run: () => move(cursor + 1) },
    { key: "k", what: "Row before", run: () => move(cursor - 1) },
    ...(onSelect ? [
      { key: "x", what: "Select the row", run: () => toggle(cursor) },
      { key: "X", what: "Select up to the row", run: () => toggle(cursor, true) },
    ] : []),
    ...(open ? [{ key: "o", what: "Open the row", run: opened }] : []),
  ]);

  function onKeyDown(event: KeyboardEvent): void {
    if (event.target !== box.current || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves: Record<string, () => void> = {
      ArrowDown: () => move(cursor + 1),
      ArrowUp: () => move(cursor - 1),
      PageDown: () => move(cursor + page()),
      PageUp: () => move(cursor - page()),
      Home: () => move(0),
      End: () => move(count - 1),
      Enter: opened,
      " ": () => toggle(cursor),
    };
    const act = moves[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  // While only the position changes, a row that stays in sight is not drawn again: its element is kept.
  const acts = useRef({ toggle, open });
  acts.current = { toggle, open };
  const kept = useRef(new Map<string, { of: readonly unknown[]; element: JSX.Element }>());
  const keeping = new Map<string, { of: readonly unknown[]; element: JSX.Element }>();
  function keep(key: string, of: readonly unknown[], draw: () => JSX.Element): JSX.Element {
    const old = kept.current.get(key);
    const same = old !== undefined && old.of.every((value, i) => value === of[i]);
    const one = same ? old : { of, element: draw() };
    keeping.set(key, one);
    return one.element;
  }
  useEffect(() => void (kept.current = keeping));

  const indexes = Array.from({ length: Math.max(0, span.to - span.from) }, (_, i) => span.from + i);
  const allOn = onSelect !== undefined && count > 0 && indexes.every((i) => { const row = at(i); return row === null || selected?.has(keyOf(row)); });
  const id = `grid-${label.toLowerCase().replace(/\W+/g, "-")}`;
  return (
    <div
      ref={box}
      class="grid-box"
      role="grid"
      aria-label={label}
      aria-rowcount={count + 1}
      aria-colcount={shown.length + (boxes ? 1 : 0)}
      aria-multiselectable={onSelect ? true : undefined}
      aria-activedescendant={cursor >= span.from && cursor < span.to ? `${id}-${cursor}` : undefined}
      tabIndex={0}
      onScroll={look}
      onKeyDown={onKeyDown}
    >
      <div class="grid-head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template, minWidth: `${total}px` }}>
        {onSelect && (
          <div role="columnheader" class="cell stay" style={{ left: 0 }}>
            <input
              type="checkbox" aria-label="Select the rows in sight" checked={allOn && (selected?.size ?? 0) > 0}
              onChange={(event) => onSelect(indexes.flatMap((i) => at(i) ?? []), event.currentTarget.checked)}
            />
          </div>
        )}
        {shown.map((column, i) => (
          <Head
            key={column.id} column={column} left={i < pinned ? lefts[i]! : null} width={widths[i]!} last={i === pinned - 1}
            order={props.order?.column === column.id ? props.order : null}
            onOrder={props.onOrder}
            onWidth={onLayout && ((width) => onLayout(changed(layout, shown, { widths: { ...layout?.widths, [column.id]: width } })))}
            onDrop={onLayout && ((moving) => onLayout(changed(layout, shown, { columns: moved(shown.map((c) => c.id), moving, column.id) })))}
          />
        ))}
      </div>
      <div class="grid-body" role="rowgroup" style={{ height: `${count * rowHeight}px`, minWidth: `${total}px` }}>
        {indexes.map((index) => {
          const row = at(index);
          const key = row ? keyOf(row) : `at-${index}`;
          const on = row !== null && (selected?.has(key) ?? false);
          return keep(key, [row, index, on, index === cursor, all, template, pinned, rowClass, rowHeight, open !== undefined], () => (
            <div
              key={key} id={`${id}-${index}`} role="row" aria-rowindex={index + 2} aria-selected={onSelect ? on : undefined}
              class={`grid-row${on ? " on" : ""}${index === cursor ? " cur" : ""}${row && rowClass ? ` ${rowClass(row)}` : ""}`}
              style={{ gridTemplateColumns: template, transform: `translateY(${index * rowHeight}px)`, height: `${rowHeight}px` }}
              onClick={() => setCursor(index)}
              onDblClick={row && open ? () => acts.current.open?.(row) : undefined}
            >
              {onSelect && (
                <div role="gridcell" class="cell stay" style={{ left: 0 }}>
                  {row && (
                    <input
                      type="checkbox" tabIndex={-1} aria-label="Select the row" checked={on}
                      onClick={(event) => { event.stopPropagation(); event.preventDefault(); setCursor(index); acts.current.toggle(index, event.shiftKey); }}
                    />
                  )}
                </div>
              )}
              {shown.map((column, i) => (
                <div
                  key={column.id} role="gridcell"
                  class={`cell${column.numeric ? " num" : ""}${i < pinned ? " stay" : ""}${i === pinned - 1 ? " stay-last" : ""}`}
                  style={i < pinned ? { left: `${lefts[i]}px` } : undefined}
                >
                  {row ? column.cell(row, index) : <span class={`skel w${(index + i) % 4}`} />}
                </div>
              ))}
            </div>
          ));
        })}
      </div>
    </div>
  );
}

function changed<Row>(layout: Layout | null | undefined, shown: readonly Column<Row>[], change: Partial<Layout>): Layout {
  return { columns: shown.map((column) => column.id), pinned: layout?.pinned ?? 1, widths: layout?.widths ?? {}, ...change };
}

function headHeight(element: HTMLElement): number {
  return element.querySelector<HTMLElement>(".grid-head")?.offsetHeight ?? 0;
}

function Head<Row>({ column, left, width, last, order, onOrder, onWidth, onDrop }: {
  column: Column<Row>;
  left: number | null;
  width: number;
  last: boolean;
  order: Order | null;
  onOrder: ((order: Order | null) => void) | undefined;
  onWidth: ((width: number) => void) | undefined;
  onDrop: ((moving: string) => void) | undefined;
}): JSX.Element {
  const [pulled, setPulled] = useState<number | null>(null);
  const name = column.name ?? (typeof column.title === "string" ? column.title : column.id);

  function pull(event: PointerEvent): void {
    if (!onWidth) return;
    event.preventDefault();
    const handle = event.currentTarget as HTMLElement;
    handle.setPointerCapture(event.pointerId);
    const start = event.clientX;
    const widthAt = (x: number): number => Math.max(40, Math.round(width + x - start));
    handle.onpointermove = (move) => setPulled(widthAt(move.clientX) - width);
    handle.onpointerup = (end) => {
      handle.onpointermove = handle.onpointerup = null;
      setPulled(null);
      onWidth(widthAt(end.clientX));
    };
  }
  // Numbers begin with the largest, text with the first.
  const next = (): Order | null => {
    if (!order) return { column: column.id, descending: column.numeric ?? false };
    return order.descending === (column.numeric ?? false) ? { column: column.id, descending: !order.descending } : null;
  };
  return (
    <div
      role="columnheader"
      class={`cell${column.numeric ? " num" : ""}${left !== null ? " stay" : ""}${last ? " stay-last" : ""}`}
      style={left !== null ? { left: `${left}px` } : undefined}
      aria-sort={order ? (order.descending ? "descending" : "ascending") : undefined}
      title={column.hint ?? name}
      draggable={onDrop !== undefined}
      onDragStart={(event) => event.dataTransfer?.setData("text/x-column", column.id)}
      onDragOver={(event) => { if (onDrop && event.dataTransfer?.types.includes("text/x-column")) event.preventDefault(); }}
      onDrop={(event) => {
        const moving = event.dataTransfer?.getData("text/x-column");
        if (moving && moving !== column.id) onDrop?.(moving);
      }}
    >
      {column.sortable && onOrder
        ? (
          <button type="button" class="head-act" onClick={() => onOrder(next())}>
            <span class="cut">{column.title}</span>
            {order && <Icon name={order.descending ? "down" : "up"} />}
          </button>
        )
        : <span class="cut">{column.title}</span>}
      {onWidth && (
        <span
          class={pulled === null ? "pull" : "pull pulled"} aria-hidden="true" draggable onDragStart={(event) => { event.preventDefault(); event.stopPropagation(); }}
          style={pulled === null ? undefined : { transform: `translateX(${pulled}px)` }} onPointerDown={pull}
        />
      )}
    </div>
  );
}

/** The height of a row, as the tokens have it. */
function useRowHeight(): number {
  const read = (): number => Number.parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) || 28;
  const [height, setHeight] = useState(read);
  useEffect(() => {
    const narrow = matchMedia("(max-width: 760px)");
    const change = (): void => setHeight(read());
    narrow.addEventListener("change", change);
    return () => narrow.removeEventListener("change", change);
  }, []);
  return height;
}
