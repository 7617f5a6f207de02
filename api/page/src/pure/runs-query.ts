// What the Runs page shows, as its address says it, and the request that asks for it.
import { asPython, shellText } from "./copies.ts";
import { keyOf, type FieldType } from "./filter.ts";
import { layoutOf, type Layout } from "./window.ts";

export type Mode = "tree" | "flat" | "group";

export interface View {
  filter: string;
  experiments: readonly string[] | null;
  mode: Mode;
  /** Columns to group by. */
  group: readonly string[];
  order: { column: string; descending: boolean } | null;
  /** Null: the columns that fit the runs found. */
  layout: Layout | null;
  selected: readonly string[];
  pins: readonly string[];
  charts: boolean;
  deleted: boolean;
}

/** The state that an address holds. */
export function viewOf(query: URLSearchParams): View {
  const list = (name: string): string[] => (query.get(name) ?? "").split(",").filter(Boolean);
  const sort = query.get("sort");
  const mode = query.get("mode");
  const experiments = list("experiments");
  return {
    filter: query.get("q") ?? "",
    experiments: experiments.length ? experiments : null,
    mode: mode === "flat" || mode === "group" ? mode : "tree",
    group: list("group"),
    order: sort ? { column: sort.replace(/^-/, ""), descending: sort.startsWith("-") } : null,
    layout: layoutOf(query.get("cols")),
    selected: list("sel"),
    pins: list("pins"),
    charts: query.get("charts") !== "0",
    deleted: query.get("view") === "deleted",
  };
}

export interface RunsQuery {
  filter: string;
  experiments?: readonly string[];
  view?: "active" | "deleted";
  columns?: readonly string[];
  order?: readonly { column: string; descending: boolean }[];
  group?: readonly string[];
  tree?: boolean;
  parent?: string;
  facets?: readonly string[];
  keys?: boolean;
  key_prefix?: string;
  keys_limit?: number;
  offset?: number;
  limit?: number;
  as_of?: string;
}

/** Which runs, without the window and the columns. */
export function which(view: View, asOf: string | null): RunsQuery {
  return {
    filter: view.filter,
    ...(view.experiments ? { experiments: view.experiments } : {}),
    ...(view.deleted ? { view: "deleted" as const } : {}),
    ...(asOf ? { as_of: asOf } : {}),
  };
}

/** A request for rows: columns that are shown, and what each row needs besides. */
export function rowsQuery(view: View, columns: readonly string[], asOf: string | null): RunsQuery {
  const order = view.order ? [view.order] : [];
  if (view.mode === "group" && view.group.length) {
    const metrics = columns.filter((column) => column.startsWith("metrics."));
    return { ...which(view, asOf), columns: metrics, group: view.group, order: order.filter((one) => /^(runs|(mean|std|min|max)\(.*\))$/.test(one.column) || view.group.includes(one.column)) };
  }
  const plain = order.filter((one) => one.column !== "runs" && one.column !== "children" && !/^(mean|std|min|max)\(/.test(one.column));
  const needed = ["run_id", "run_name", "status", "complete", "events_missing", "points_dropped", ...(view.mode === "tree" ? ["children"] : [])];
  return {
    ...which(view, asOf),
    columns: [...new Set([...needed, ...columns])],
    order: plain,
    ...(view.mode === "tree" ? { tree: true } : {}),
  };
}

export interface Keys {
  params: { key: string; runs: number }[];
  metrics: { key: string; runs: number }[];
  tags: { key: string; runs: number }[];
  params_count: number;
  metrics_count: number;
  tags_count: number;
}

/** The column of a key. One whose key ends like a part of a metric is quoted. */
export function columnOf(kind: "params" | "metrics" | "tags", key: string): string {
  return kind === "metrics" && /\.(min|max|points)$/.test(key) ? `metrics.\`${key}\`` : `${kind}.${key}`;
}

/** A column's name for people: `loss` for `metrics.loss`, `loss min` for `metrics.loss.min`. */
export function titleOf(column: string): string {
  const inner = /^(mean|std|min|max)\((.*)\)$/.exec(column);
  if (inner) return `${titleOf(inner[2]!)} ${inner[1]}`;
  const [kind, key] = keyOf(column);
  if (kind === "attributes") return ATTRIBUTE_TITLES[column] ?? column.replaceAll("_", " ");
  const part = kind === "metrics" && !column.includes("`") ? /^(.*)\.(min|max|points)$/.exec(key) : null;
  return part ? `${part[1]} ${part[2]}` : key;
}

const ATTRIBUTE_TITLES: Record<string, string> = {
  run_name: "Run", status: "Status", complete: "Data", start_time: "Started", end_time: "Ended", duration_s: "Took", user: "By",
  experiment_name: "Experiment", last_heartbeat: "Last heard", parent_run_id: "Parent", children: "Runs below", runs: "Runs",
};

/** The columns that fit some runs: how they are, then their metrics and params that most of them have. */
export function defaultColumns(keys: Keys, all: number): string[] {
  const common = (list: readonly { key: string; runs: number }[], most: number): string[] =>
    list.filter((one) => one.runs * 20 >= all && !one.key.startsWith("system/")).slice(0, most).map((one) => one.key);
  return [
    "run_name", "status", "complete",
    ...common(keys.metrics, 3).map((key) => columnOf("metrics", key)),
    ...common(keys.params, 3).map((key) => columnOf("params", key)),
    "start_time", "duration_s", "user", "experiment_name",
  ];
}

/** Fields of the filter that every run has. */
export const ATTRIBUTES: ReadonlyMap<string, FieldType> = new Map<string, FieldType>([
  ["run_name", "text"], ["status", "text"], ["experiment_name", "text"], ["user", "text"], ["run_id", "text"], ["start_time", "time"],
  ["end_time", "time"], ["duration_s", "number"], ["complete", "boolean"], ["events_missing", "integer"], ["points_dropped", "integer"],
  ["points_logged", "integer"], ["events_after_end", "integer"], ["last_heartbeat", "time"], ["parent_run_id", "text"], ["git_branch", "text"],
  ["git_commit", "text"], ["git_dirty", "boolean"], ["host", "text"], ["entry_point", "text"], ["python_version", "text"], ["actor", "text"],
]);

/** The same question for other tools. */
export function copies(query: RunsQuery, sql: string | null, origin: string): Record<string, () => string> {
  const python = (text: string): string => JSON.stringify(text);
  const order = (query.order ?? []).map((one) => `${one.column}${one.descending ? " DESC" : ""}`);
  return {
    ...(sql ? { SQL: () => sql } : {}),
    curl: () => `curl -s ${origin}/api/v1/runs/query -H 'Content-Type: application/json' -d ${shellText(JSON.stringify(query))}`,
    ...(sql ? { Python: () => asPython(sql, origin) } : {}),
    MLflow: () =>
      `import mlflow\n\nmlflow.set_tracking_uri(${python(origin)})\nmlflow.search_runs(\n    search_all_experiments=True,\n` +
      `    filter_string=${python(query.filter)},\n${order.length ? `    order_by=${JSON.stringify(order)},\n` : ""})\n`,
  };
}
