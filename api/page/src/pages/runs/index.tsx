// Runs of all experiments: facets, filter, table as a tree, flat or in groups, and charts beside it.
// From `POST /api/v1/runs/query`: one request for what the runs have in common, one for the rows in sight.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { JSX } from "preact";
import "./runs.css";
import { ask, query, type ApiError } from "../../client/api.ts";
import { lagMs, liveState, useLive } from "../../client/live.ts";
import { useAnswer } from "../../parts/answer.ts";
import { copyText } from "../../parts/copy.tsx";
import { FilterBar } from "../../parts/filter.tsx";
import { Icon } from "../../parts/icon.tsx";
import { LazyCharts } from "../../parts/lazy.tsx";
import { Menu } from "../../parts/menu.tsx";
import { Page, Writes } from "../../parts/page.tsx";
import { useRows } from "../../parts/rows.ts";
import { Empty, Failed, NothingFound, Skeleton } from "../../parts/states.tsx";
import { Table } from "../../parts/table.tsx";
import { toast } from "../../parts/toast.tsx";
import { field, keyOf, quoted, withCondition, type Suggestion } from "../../pure/filter.ts";
import { count } from "../../pure/format.ts";
import { ATTRIBUTES, columnOf, copies, defaultColumns, rowsQuery, titleOf, viewOf, which, type Keys } from "../../pure/runs-query.ts";
import { lineAt, lineCount, rowsIn, type Line, type Opened } from "../../pure/tree.ts";
import { layoutText, type Layout, type Span } from "../../pure/window.ts";
import { useKeys } from "../../state/keys.ts";
import { go, linkTo, place, setQuery } from "../../state/location.ts";
import { moment } from "../../state/moment.ts";
import { DeleteDialog, TagDialog } from "./bulk.tsx";
import { groupColumn, runColumn, runId, type Lined, type Row } from "./cells.tsx";
import { ColumnsDialog, GroupDialog } from "./columns.tsx";
import { FACETS, FacetList, type Facets } from "./facets.tsx";

interface Found {
  rows: Row[];
  count: number;
  runs: number;
  sql: string | null;
  columns: { name: string; type: string }[];
  position: { registry: string | null; runs: string[] };
  /** In the past: fields whose values are as they are now where they are searched or ordered by. */
  as_of?: { searched_as_now?: string[] };
}
interface Shape {
  facets: Facets;
  keys: Keys;
  runs: number;
}

const ROUTE = "/api/v1/runs/query";
const CHILDREN_MAX = 1_000;
/** The server folds so many runs up to a moment in one answer. */
const PAST_ROWS_MAX = 200;
const LIVE_MS = 1_000;
const OPEN_AT_FIRST = 3;
const CHARTS_MAX = 4;
const RUNS_IN_CHARTS = 100;
const FIRST_IN_CHARTS = 12;
const FIRST_RUN = `from modeltrail.producers import start_run

with start_run(experiment="first") as run:
    run.log({"loss": 0.5}, step=1)`;

export default function Runs(): JSX.Element {
  const view = viewOf(place.value.query);
  const asOf = moment.value;
  const [dialog, setDialog] = useState<"columns" | "group" | "tag" | "delete" | null>(null);
  const [facetsOpen, setFacetsOpen] = useState(false);
  const common = which(view, asOf);
  const shapeBody = { ...common, facets: FACETS, keys: true, keys_limit: 60, limit: 0 };
  const shape = useAnswer(`shape ${JSON.stringify(shapeBody)}`, (signal) => query<Shape>(ROUTE, shapeBody, signal));

  const defaults = useRef<string[] | null>(null);
  if (shape.data && (defaults.current === null || view.filter === "")) defaults.current = defaultColumns(shape.data.keys, shape.data.runs);
  const layout: Layout | null = view.layout ?? (defaults.current && { columns: defaults.current, pinned: 1, widths: {} });
  const grouped = view.mode === "group" && view.group.length > 0;
  const asked = layout && rowsQuery(view, layout.columns, asOf);
  const rows = useRows<Row, Found>(asked && JSON.stringify(asked), async (offset, limit, signal) => {
    const found = await query<Found>(ROUTE, { ...asked, offset, limit }, signal);
    return { rows: found.rows, count: found.count, more: found };
  });

  const below = useBelow(view.mode === "tree" && !grouped, asked, asOf, rows.at, rows.count ?? 0);
  const pinned = useAnswer(
    view.pins.length && asked && !grouped ? `pins ${view.pins.join()} ${JSON.stringify(asked.columns)}` : null,
    (signal) => query<Found>(ROUTE, { filter: `run_id IN (${view.pins.map(quoted).join(", ")})`, view: "all", columns: asked!.columns, limit: 100, ...(asOf ? { as_of: asOf } : {}) }, signal),
  );
  const pinRows: readonly Row[] = view.pins.length && !grouped ? pinned.data?.rows ?? [] : [];
  const lines = lineCount(rows.count ?? 0, below.opened) + pinRows.length;
  const at = useCallback((index: number): Lined | null => {
    if (index < pinRows.length) return { row: pinRows[index]!, depth: 0 };
    const found = lineAt(index - pinRows.length, below.opened);
    if (typeof found !== "number") return found;
    const row = rows.at(found);
    return row && { row, depth: 0 };
  }, [rows.at, below.opened, pinRows]);
  const want = useCallback((span: Span) => {
    rows.want(rowsIn(Math.max(0, span.from - pinRows.length), Math.max(0, span.to - pinRows.length), below.opened));
  }, [rows.want, below.opened, pinRows.length]);

  // Live: rows in sight are asked for again, at most once a second.
  const soon = useRef<ReturnType<typeof setTimeout> | null>(null);
  const refresh = (): void => {
    soon.current ??= setTimeout(() => {
      soon.current = null;
      rows.again();
    }, LIVE_MS);
  };
  useLive(asOf === null ? {} : null, {
    runs: (grew) => {
      refresh();
      if (grew.created.length || grew.ended.length) shape.again();
    },
    resumed: () => { rows.again(); shape.again(); },
  });

  const selected = useMemo(() => new Set(view.selected), [view.selected.join()]);
  const onSelect = (changed: readonly Lined[], on: boolean): void => {
    const next = new Set(selected);
    for (const { row } of changed) {
      if (on) next.add(runId(row));
      else next.delete(runId(row));
    }
    setQuery({ sel: next.size ? [...next].join(",") : null }, { replace: true });
  };
  const setFilter = (text: string, done = true): void => setQuery({ q: text || null }, { replace: !done });
  const pins = useMemo(() => new Set(view.pins), [view.pins.join()]);
  const setLayout = (next: Layout | null): void => setQuery({ cols: next && layoutText(next) }, { replace: true });

  const sample = Array.from({ length: Math.min(lines, 100) }, (_, i) => at(i)?.row).filter((row): row is Row => row !== undefined);
  const found = rows.more;
  const columns = grouped
    ? (found?.columns ?? []).map((column) => groupColumn(column.name, sample))
    : (layout?.columns ?? []).map((id) => runColumn(id, sample, view.mode === "tree" ? below : null, pins));
  const selectedIds = [...selected];
  const compareLink = linkTo("/compare", { runs: selectedIds.join(",") });
  useKeys("Runs", [
    ...(selected.size > 1 ? [{ key: "c", what: "Compare the selected runs", run: () => go(compareLink) }] : []),
    { key: "Escape", run: () => { if (selected.size) setQuery({ sel: null }, { replace: true }); } },
  ]);

  async function download(format: "csv" | "parquet" | "arrow"): Promise<void> {
    const body = format === "arrow" ? { ...asked, limit: 10_000 } : asked;
    try {
      const answer = await ask("POST", ROUTE, { body, query: { format }, accept: "*/*" });
      saveAs(await answer.blob(), `runs.${format}`);
    } catch (error) {
      toast(String((error as Error).message), { kind: "bad" });
    }
  }

  const inCharts = chartRuns(view.selected, view.pins, sample, grouped);
  const chartKeys = (layout?.columns ?? []).filter((id) => /^metrics\.(?!.*\.(min|max|points)$)/.test(id)).map((id) => keyOf(id)[1]).slice(0, CHARTS_MAX);
  const names = new Map(sample.map((row) => [runId(row), row.run_name ? String(row.run_name) : runId(row)]));
  const withCharts = view.charts && !grouped && inCharts.length > 0 && chartKeys.length > 0;
  const nothing = rows.count === 0 && !rows.waiting;
  const all = shape.data?.runs ?? 0;
  return (
    <Page
      crumbs={[{ text: view.deleted ? "Deleted runs" : "All runs" }]}
      fill
      acts={
        <>
          <span class="desk">
            <Menu
              label="Export" icon="load" title="Export all runs found" items={[
                { text: "CSV", hint: "all rows", run: () => void download("csv") },
                { text: "Parquet", hint: "all rows", run: () => void download("parquet") },
                { text: "Arrow", hint: "10 000 rows", run: () => void download("arrow") },
              ]}
            />
          </span>
          {selected.size > 1 && <a class="btn main-act" href={compareLink}>Compare {selected.size} <kbd class="desk">c</kbd></a>}
        </>
      }
    >
      <FilterBar
        value={view.filter} onChange={setFilter} attributes={ATTRIBUTES} sql={found?.sql ?? null}
        placeholder="metrics.loss < 0.1 and params.lr = '0.01'"
        error={rows.error?.code === "INVALID_PARAMETER_VALUE" ? rows.error : null}
        copyAs={asked ? copies(asked, found?.sql ?? null, location.origin) : undefined}
        fieldsFor={(written, signal) => fieldsFor(written, asOf, signal)}
        valuesFor={(name, signal) => valuesFor(name, asOf, signal)}
      >
        <span class="group desk" role="group" aria-label="Arrangement">
          {(["tree", "flat", "group"] as const).map((mode) => (
            <button
              key={mode} type="button" class="btn" aria-pressed={view.mode === mode}
              onClick={() => { setQuery({ mode: mode === "tree" ? null : mode, sort: null }); if (mode === "group") setDialog("group"); }}
            >
              {{ tree: "Tree", flat: "Flat", group: "Group" }[mode]}
            </button>
          ))}
        </span>
        <button type="button" class="btn desk split-charts" aria-pressed={view.charts} onClick={() => setQuery({ charts: view.charts ? "0" : null })}>Charts</button>
        <button type="button" class="btn desk" onClick={() => setDialog("columns")}><Icon name="cols" />Columns</button>
        <button type="button" class="btn desk" onClick={() => void copyText(location.href)} title="The address holds the filter, columns, order, selection and moment"><Icon name="link" />Share view</button>
        <button type="button" class="btn phone-only" aria-expanded={facetsOpen} onClick={() => setFacetsOpen(!facetsOpen)}><Icon name="filter" />Facets</button>
      </FilterBar>
      <div class={`cols-runs${facetsOpen ? " facets-open" : ""}${withCharts ? " with-charts" : ""}`}>
        {shape.data ? <FacetList facets={shape.data.facets} keys={shape.data.keys} filter={view.filter} onFilter={(text) => setFilter(text)} /> : <aside class="facets" aria-label="Facets" />}
        <div class="mid">
          {found?.as_of?.searched_as_now && found.as_of.searched_as_now.length > 0 && (
            <p class="note as-now">Rows are as they were at this moment. They are found and ordered by {found.as_of.searched_as_now.map(titleOf).join(", ")} as now.</p>
          )}
          {rows.error && rows.error.code !== "INVALID_PARAMETER_VALUE" && <Failed error={rows.error} again={rows.again} at={rows.since} />}
          {rows.count === null
            ? !rows.error && <Skeleton rows={24} />
            : nothing && !pinRows.length
              ? view.filter || view.experiments || view.deleted
                ? (
                  <NothingFound what="No run fits this filter" drop={() => setQuery({ q: null, experiments: null, view: null })}>
                    {view.filter && <code>{view.filter}</code>}
                  </NothingFound>
                )
                : <Empty title="No runs yet" code={FIRST_RUN}>Each run of a training script is a row here. These lines make the first one.</Empty>
              : (
                <Table<Lined>
                  label="Runs" columns={columns} count={lines} at={at} want={want} question={JSON.stringify([common, view.mode, view.order, view.group])}
                  keyOf={({ row }) => (grouped ? JSON.stringify(view.group.map((name) => row[name])) : runId(row))}
                  order={view.order} onOrder={(order) => setQuery({ sort: order && (order.descending ? "-" : "") + order.column })}
                  {...(grouped
                    ? { open: ({ row }) => setQuery({ mode: "flat", group: null, sort: null, q: groupFilter(view.filter, view.group, row) }) }
                    : { selected, onSelect, layout, onLayout: setLayout, open: ({ row }) => go(linkTo(`/runs/${encodeURIComponent(runId(row))}`)) })}
                />
              )}
          <footer class="foot">
            {selected.size > 0
              ? (
                <>
                  <span><b class="b5 q2">{count(selected.size)} of {count(all)}</b> selected</span>
                  <button type="button" class="btn bare s" onClick={() => setQuery({ pins: [...new Set([...view.pins, ...selectedIds])].join(","), sel: null })}><Icon name="pin" />Pin</button>
                  <Writes>
                    <button type="button" class="btn bare s" onClick={() => setDialog("tag")}>Tag</button>
                    <button type="button" class="btn bare s" onClick={() => setDialog("delete")}>{view.deleted ? "Restore" : "Delete"}</button>
                  </Writes>
                  <button type="button" class="btn bare s" onClick={() => setQuery({ sel: null }, { replace: true })}>None</button>
                </>
              )
              : <span>{rows.count === null ? "" : `${count(all)} ${all === 1 ? "run" : "runs"}`}{grouped && rows.count !== null && ` in ${count(rows.count)} groups`}</span>}
            {view.pins.length > 0 && <button type="button" class="btn bare s" onClick={() => setQuery({ pins: null })}>Unpin {view.pins.length}</button>}
            <span class="gap" />
            <LiveSign />
            {found?.position.runs.length === 1 && <span class="desk">at {found.position.runs[0]}</span>}
            <a class="desk" href={linkTo("/runs", { view: view.deleted ? null : "deleted" })}>{view.deleted ? "Active runs" : "Deleted runs"}</a>
          </footer>
        </div>
        {withCharts && (
          <aside class="split-charts" aria-label="Charts">
            <LazyCharts runs={inCharts} keys={chartKeys} nameOf={(id) => names.get(id) ?? id.slice(0, 8)} />
          </aside>
        )}
      </div>
      {dialog === "columns" && layout && <ColumnsDialog layout={layout} asked={common} onLayout={setLayout} close={() => setDialog(null)} />}
      {dialog === "group" && shape.data && <GroupDialog group={view.group} keys={shape.data.keys} onGroup={(group) => setQuery({ group: group.join(",") || null }, { replace: true })} close={() => setDialog(null)} />}
      {dialog === "tag" && <TagDialog ids={selectedIds} close={() => setDialog(null)} />}
      {dialog === "delete" && (
        <DeleteDialog ids={selectedIds} restore={view.deleted} close={(done) => { setDialog(null); if (done) setQuery({ sel: null }, { replace: true }); }} />
      )}
    </Page>
  );
}

/** The runs of the charts: those selected, or pinned, or the first that have no runs below them. */
function chartRuns(selected: readonly string[], pins: readonly string[], sample: readonly Row[], grouped: boolean): readonly string[] {
  if (grouped) return [];
  if (selected.length || pins.length) return [...new Set([...pins, ...selected])].slice(0, RUNS_IN_CHARTS);
  return sample.filter((row) => !Number(row.children)).slice(0, FIRST_IN_CHARTS).map(runId);
}

function LiveSign(): JSX.Element | null {
  if (liveState.value === "reconnecting") return <span class="st warn"><Icon name="again" />server away: showing what was here</span>;
  if (liveState.value !== "live") return null;
  return <span class="desk" title="From the log to this page">live{lagMs.value !== null && `, lag ${count(lagMs.value)} ms`}</span>;
}

/** The opened rows of a tree, and what stands below them. */
function useBelow(active: boolean, asked: ReturnType<typeof rowsQuery> | null, asOf: string | null, at: (index: number) => Row | null, rows: number): {
  opened: readonly Opened<Row>[];
  isOpen: (id: string) => boolean;
  toggle: (id: string) => void;
} {
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const [children, setChildren] = useState<ReadonlyMap<string, readonly Row[]>>(new Map());
  const { tree: _, ...plain } = asked ?? { filter: "" };
  const key = JSON.stringify([plain, asOf]);
  const last = useRef(key);
  if (last.current !== key) {
    // Another question: what stands below is asked for again, for the rows that are open.
    last.current = key;
    setChildren(new Map());
    for (const id of open) load(id);
  }
  function load(id: string): void {
    query<Found>(ROUTE, { ...plain, parent: id, limit: asOf === null ? CHILDREN_MAX : PAST_ROWS_MAX }).then(
      (found) => { if (last.current === key) setChildren((old) => new Map(old).set(id, found.rows)); },
      // A filter that is refused says so in its bar.
      (error: ApiError) => { if (error.status !== 400) toast(error.message, { kind: "bad" }); },
    );
  }
  const toggle = (id: string): void => {
    const next = new Set(open);
    if (next.delete(id)) return setOpen(next);
    setOpen(next.add(id));
    if (!children.has(id)) load(id);
  };
  // A tree with few tops is shown open.
  const greeted = useRef(false);
  useEffect(() => {
    if (greeted.current || !active || rows === 0 || at(0) === null) return;
    greeted.current = true;
    if (rows > OPEN_AT_FIRST) return;
    for (let i = 0; i < rows; i += 1) {
      const row = at(i);
      if (row && Number(row.children) > 0) {
        setOpen((old) => new Set(old).add(runId(row)));
        load(runId(row));
      }
    }
  }, [active, rows, at]);
  const opened = useMemo(() => {
    if (!active || open.size === 0) return [];
    const linesOf = (id: string, depth: number): Line<Row>[] =>
      (children.get(id) ?? []).flatMap((row) => [{ row, depth }, ...(open.has(runId(row)) && depth < 20 ? linesOf(runId(row), depth + 1) : [])]);
    const found: Opened<Row>[] = [];
    for (let index = 0; index < rows; index += 1) {
      const row = at(index);
      if (row === null) {
        index += 199 - (index % 200); // a page that is not here
        continue;
      }
      if (open.has(runId(row))) found.push({ index, lines: linesOf(runId(row), 1) });
    }
    return found;
  }, [active, open, children, at, rows]);
  return { opened, isOpen: (id) => open.has(id), toggle };
}

async function fieldsFor(written: string, asOf: string | null, signal: AbortSignal): Promise<Suggestion[]> {
  const { keys } = await query<{ keys: Keys }>(ROUTE, { ...(asOf ? { as_of: asOf } : {}), keys: true, key_prefix: written, keys_limit: 30, limit: 0 }, signal);
  return (["metrics", "params", "tags"] as const).flatMap((kind) =>
    keys[kind].map(({ key, runs }) => ({ text: columnOf(kind, key), insert: `${field(kind, key)} `, hint: `${count(runs)} runs` })));
}

async function valuesFor(name: string, asOf: string | null, signal: AbortSignal): Promise<Suggestion[]> {
  if (name.startsWith("metric")) return [];
  const { facets } = await query<{ facets: Facets }>(ROUTE, { ...(asOf ? { as_of: asOf } : {}), facets: [name], limit: 0 }, signal);
  return Object.values(facets)[0]?.filter((one) => one.value !== null).map((one) => (
    { text: String(one.value), insert: `${quoted(String(one.value))} `, hint: `${count(one.runs)} runs` })) ?? [];
}

/** The filter for the runs of a group. */
function groupFilter(filter: string, group: readonly string[], row: Row): string {
  return group.reduce((text, name) => withCondition(text, row[name] === null ? `${name} IS NULL` : `${name} = ${quoted(String(row[name]))}`), filter);
}

function saveAs(data: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(data);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
