// The columns of the Runs table: how each kind of value is shown.
import type { ComponentChildren, JSX } from "preact";
import { places, type Value } from "../../pure/format.ts";
import { keyOf } from "../../pure/filter.ts";
import { titleOf } from "../../pure/runs-query.ts";
import { Icon } from "../../parts/icon.tsx";
import type { Column } from "../../parts/table.tsx";
import { Actor, colourOf, Duration, Num, Status, Text, Time } from "../../parts/values.tsx";
import { linkTo } from "../../state/location.ts";

/** A row of `/api/v1/runs/query`: values by column. */
export type Row = Readonly<Record<string, Value | string | boolean | null>>;

export interface Lined {
  row: Row;
  depth: number;
}

export interface TreeActs {
  isOpen: (id: string) => boolean;
  toggle: (id: string) => void;
}

export const runId = (row: Row): string => String(row.run_id);

const WIDTHS: Record<string, number> = {
  run_name: 240, status: 104, complete: 108, start_time: 132, end_time: 132, last_heartbeat: 132, duration_s: 92, user: 112,
  experiment_name: 160, runs: 72, run_id: 260,
};

/** A column of runs, by its name in the query. */
export function runColumn(id: string, rows: readonly Row[], tree: TreeActs | null, pins: ReadonlySet<string>, spark?: (row: Row) => ComponentChildren): Column<Lined> {
  const [kind] = keyOf(id);
  const metric = kind === "metrics";
  const values = rows.map((row) => row[id]);
  // A param is text and stays as it was logged; it stands right if it is a number in every row.
  const numeric = metric || id === "duration_s" || /_(missing|dropped|logged|stored)$|^runs$|^children$|^events_after_end$/.test(id)
    || (kind === "params" && values.some(Boolean) && values.every((value) => value === null || value === undefined || (value !== "" && !Number.isNaN(Number(value)))));
  const decimals = metric ? places(values.flatMap((value) => (typeof value === "number" ? [value] : []))) : null;
  const base = { id, title: titleOf(id), name: titleOf(id), numeric, sortable: id !== "children", hint: id };
  const cell = ({ row, depth }: Lined): ComponentChildren => {
    const value = row[id];
    if (id === "run_name") return <Name row={row} depth={depth} tree={tree} pinned={pins.has(runId(row))} />;
    if (id === "status") return <Status status={value as string} />;
    if (id === "complete") return <Complete row={row} />;
    if (/_time$|^last_heartbeat$|^appended_at$/.test(id)) return <Time at={value as string | null} />;
    if (id === "duration_s") return <Duration seconds={value as number | null} />;
    if (id === "user" || id === "actor") return <Actor name={value as string | null} />;
    if (value === null || value === undefined) return <span class="q">–</span>;
    if (metric) return <>{spark?.(row)}<Num value={value as Value} decimals={decimals} /></>;
    if (typeof value === "number") return <Num value={value} />;
    return <Text title={String(value)}>{String(value)}</Text>;
  };
  return { ...base, width: WIDTHS[id] ?? (metric ? (spark ? 136 : 104) : kind === "params" ? 88 : 120), cell };
}

function Name({ row, depth, tree, pinned }: { row: Row; depth: number; tree: TreeActs | null; pinned: boolean }): JSX.Element {
  const id = runId(row);
  const below = Number(row.children ?? 0);
  const open = tree?.isOpen(id) ?? false;
  const name = row.run_name === null || row.run_name === "" ? id : String(row.run_name);
  return (
    <span class="nm" style={depth ? { paddingLeft: `${depth * 20}px` } : undefined}>
      {tree && below > 0
        ? (
          <button type="button" class="twist" tabIndex={-1} aria-label={open ? "Close" : "Open"} aria-expanded={open} onClick={(event) => { event.stopPropagation(); tree.toggle(id); }}>
            <Icon name={open ? "down" : "right"} />
          </button>
        )
        : tree && <span class="twist" />}
      <span class={`dot ${colourOf(id)}`} />
      <a href={linkTo(`/runs/${encodeURIComponent(id)}`)} class="cut" title={`${name}\n${id}`}><bdi class={below ? "b5" : ""}>{name}</bdi></a>
      {below > 0 && <span class="q nowrap">{below} {below === 1 ? "run" : "runs"}</span>}
      {pinned && <Icon name="pin" title="Pinned" />}
    </span>
  );
}

/** Whether all that the run logged is here. What is normal is a grey tick. */
export function Complete({ row }: { row: Row }): JSX.Element {
  const missing = Number(row.events_missing ?? 0);
  const dropped = Number(row.points_dropped ?? 0);
  if (missing > 0) return <span class="st warn" title={`${missing} events of this run are missing from the log`}><Icon name="warn" />{missing} missing</span>;
  if (dropped > 0) return <span class="st warn" title={`the producer dropped ${dropped} points`}><Icon name="warn" />{dropped} dropped</span>;
  if (row.status === "RUNNING") return <span class="q" title="nothing is missing so far">so far</span>;
  if (row.complete === false) return <span class="q" title="the start of this run is not in the log">no start</span>;
  return <span class="q"><Icon name="check" title="complete: no event missing, no point dropped" /></span>;
}

/** Columns of groups: their values, the number of runs, and mean ± deviation, least and greatest of each metric. */
export function groupColumn(id: string, rows: readonly Row[]): Column<Lined> {
  const decimals = places(rows.flatMap((row) => (typeof row[id] === "number" ? [row[id]] : [])));
  const numeric = id === "runs" || /^(mean|std|min|max)\(/.test(id);
  return {
    id, title: titleOf(id), name: titleOf(id), hint: id, numeric, sortable: true, width: numeric ? 116 : 180,
    cell: ({ row }) => {
      const value = row[id];
      if (value === null || value === undefined) return <span class="q">{numeric ? "–" : "none"}</span>;
      return typeof value === "number" ? <Num value={value} decimals={id === "runs" ? 0 : decimals} /> : <Text>{String(value)}</Text>;
    },
  };
}
