// Compare runs, named by their ids or by a filter: only what differs, parallel coordinates, charts, scatter, boxes.
// From `POST /api/v1/runs/query` and `POST /api/v1/charts`.
import { useMemo, useState } from "preact/hooks";
import type { JSX } from "preact";
import "./compare.css";
import { query } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { copyText } from "../../parts/copy.tsx";
import { Icon } from "../../parts/icon.tsx";
import { LazyCharts } from "../../parts/lazy.tsx";
import { CopyAs } from "../../parts/menu.tsx";
import { Page } from "../../parts/page.tsx";
import { Empty, Loaded, NothingFound } from "../../parts/states.tsx";
import { colourOf, Duration, Num, Status, Text, Time } from "../../parts/values.tsx";
import { asNumber, differences, type Cell, type Difference } from "../../pure/compare.ts";
import { keyOf, quoted } from "../../pure/filter.ts";
import { count, places, type Value } from "../../pure/format.ts";
import { columnOf, copies, titleOf, type Keys, type RunsQuery } from "../../pure/runs-query.ts";
import { go, linkTo, place, setQuery } from "../../state/location.ts";
import { moment } from "../../state/moment.ts";
import { Boxes, Parallel, Scatter } from "./drawings.tsx";

export type Run = Readonly<Record<string, Cell>>;

const ROUTE = "/api/v1/runs/query";
const RUNS_MAX = 100;
const OF_EVERY_RUN = ["status", "start_time", "duration_s", "user", "experiment_name", "git_commit", "git_branch", "host", "python_version", "points_stored", "events_missing"];
const KEYS_MAX = 90;
const ROWS_AT_FIRST = 60;
const CHARTS_AT_FIRST = 6;

export default function Compare(): JSX.Element {
  const params = place.value.query;
  const ids = (params.get("runs") ?? "").split(",").filter(Boolean);
  const q = params.get("q");
  const asOf = moment.value;
  const which: RunsQuery = {
    filter: ids.length ? `run_id IN (${ids.slice(0, RUNS_MAX).map(quoted).join(", ")})` : q ?? "",
    ...(asOf ? { as_of: asOf } : {}),
  };
  const asked = ids.length > 0 || q !== null;
  const shape = useAnswer(asked ? `compare keys ${JSON.stringify(which)}` : null, (signal) =>
    query<{ keys: Keys; runs: number }>(ROUTE, { ...which, keys: true, keys_limit: KEYS_MAX, limit: 0 }, signal));
  const keys = shape.data?.keys;
  const columns = keys && [
    ...keys.metrics.filter(({ key }) => !key.startsWith("system/")).map(({ key }) => columnOf("metrics", key)),
    ...keys.params.map(({ key }) => columnOf("params", key)),
  ];
  const body = columns && { ...which, columns: ["run_id", "run_name", ...OF_EVERY_RUN, ...columns], limit: RUNS_MAX };
  const answer = useAnswer(body ? JSON.stringify(body) : null, (signal) => query<{ rows: Run[]; sql: string | null; runs: number }>(ROUTE, body, signal));
  const title = ids.length ? `compare ${ids.length}` : "compare a query";
  const failed = shape.error ?? answer.error;
  return (
    <Page
      crumbs={[{ text: "Runs", href: "/runs" }, { text: title }]}
      acts={body && (
        <>
          <button type="button" class="btn desk" onClick={() => void copyText(location.href)}><Icon name="link" />Link</button>
          <CopyAs texts={copies(body, answer.data?.sql ?? null, location.origin)} />
        </>
      )}
    >
      {!asked
        ? <Empty title="Nothing to compare yet">Select runs in the <a class="a" href={linkTo("/runs")}>list</a> with <kbd>x</kbd> and press <kbd>c</kbd>.</Empty>
        : (
          <Loaded answer={failed ? { ...answer, error: failed, again: shape.error ? shape.again : answer.again } : answer} rows={14}>
            {({ rows, runs }) => rows.length === 0
              ? <NothingFound what="None of these runs is here">They may be deleted, of another server, or not shared with you.</NothingFound>
              : <Comparison runs={inOrder(rows, ids)} columns={columns ?? []} all={runs} asked={ids.length} q={q} />}
          </Loaded>
        )}
    </Page>
  );
}

/** Runs in the order in which they were named. */
function inOrder(rows: readonly Run[], ids: readonly string[]): Run[] {
  const at = new Map(ids.map((id, i) => [id, i]));
  return [...rows].sort((a, b) => (at.get(String(a.run_id)) ?? 0) - (at.get(String(b.run_id)) ?? 0));
}

export const nameOfRun = (run: Run): string => String(run.run_name || run.run_id);

function Comparison({ runs, columns, all, asked, q }: { runs: readonly Run[]; columns: readonly string[]; all: number; asked: number; q: string | null }): JSX.Element {
  const params = place.value.query;
  const [everything, down] = [params.get("all") === "1", params.get("down") === "1"];
  const names = useMemo(() => new Map(runs.map((run) => [String(run.run_id), nameOfRun(run)])), [runs]);
  const found = useMemo(() => differences([...columns, ...OF_EVERY_RUN], runs), [columns, runs]);
  const differing = found.filter((one) => one.differs);
  const equal = found.filter((one) => !one.differs);
  const shown = everything ? found : differing;
  const numeric = differing.filter((one) => one.id.startsWith("metrics.") && one.values.some((value) => typeof value === "number"));
  const axes = differing.filter((one) => /^(params|metrics)\./.test(one.id) && one.values.some((value) => value !== null && value !== undefined));
  const drawing = params.get("drawing") ?? "parallel";
  const charted = columns.filter((id) => id.startsWith("metrics.")).map((id) => keyOf(id)[1]);
  const [charts, setCharts] = useState(CHARTS_AT_FIRST);
  return (
    <>
      <h1>{count(runs.length)} {runs.length === 1 ? "run" : "runs"}</h1>
      <p class="q2">
        {q !== null && <>The selection is a query, not a list: <code>{q || "all runs"}</code>. </>}
        {all > runs.length && <>The first {count(runs.length)} of {count(all)}. </>}
        {asked > runs.length && <>{asked - runs.length} of those named {asked - runs.length === 1 ? "is" : "are"} not here.</>}
      </p>
      <section>
        <div class="head">
          <h2>What differs</h2>
          <span class="q">{count(differing.length)} rows. {counted(equal)} equal.</span>
          <span class="gap" />
          <span class="group" role="group" aria-label="Rows">
            <button type="button" class="btn s" aria-pressed={!everything} onClick={() => setQuery({ all: null }, { replace: true })}>Differs</button>
            <button type="button" class="btn s" aria-pressed={everything} onClick={() => setQuery({ all: "1" }, { replace: true })}>All</button>
          </span>
          <span class="group desk" role="group" aria-label="Runs">
            <button type="button" class="btn s" aria-pressed={!down} onClick={() => setQuery({ down: null }, { replace: true })}>Runs across</button>
            <button type="button" class="btn s" aria-pressed={down} onClick={() => setQuery({ down: "1" }, { replace: true })}>Runs down</button>
          </span>
        </div>
        {shown.length === 0 ? <p class="q">These runs have the same params and metrics.</p> : down ? <Down runs={runs} rows={shown} /> : <Across runs={runs} rows={shown} />}
      </section>
      {axes.length > 1 && runs.length > 1 && (
        <section>
          <div class="head">
            <h2>Params and results</h2>
            <span class="gap" />
            <span class="group" role="group" aria-label="Drawing">
              {(["parallel", "scatter", "box"] as const).map((kind) => (
                <button key={kind} type="button" class="btn s" aria-pressed={drawing === kind} onClick={() => setQuery({ drawing: kind === "parallel" ? null : kind }, { replace: true })}>
                  {{ parallel: "Parallel", scatter: "Scatter", box: "Box" }[kind]}
                </button>
              ))}
            </span>
          </div>
          {drawing === "scatter" ? <Scatter runs={runs} axes={axes} /> : drawing === "box" ? <Boxes runs={runs} axes={axes} metrics={numeric} /> : <Parallel runs={runs} axes={axes} />}
        </section>
      )}
      {charted.length > 0 && (
        <section>
          <LazyCharts runs={runs.map((run) => String(run.run_id))} keys={charted.slice(0, charts)} nameOf={(id) => names.get(id) ?? id} columns height={220} />
          {charted.length > charts && <button type="button" class="btn more-charts" onClick={() => setCharts(charts + CHARTS_AT_FIRST)}>{count(Math.min(CHARTS_AT_FIRST, charted.length - charts))} more of {count(charted.length)} metrics</button>}
        </section>
      )}
    </>
  );
}

function counted(equal: readonly Difference[]): string {
  const of = (prefix: string): number => equal.filter((one) => one.id.startsWith(prefix)).length;
  const [params, metrics] = [of("params."), of("metrics.")];
  const others = equal.length - params - metrics;
  const parts = [[params, "params"], [metrics, "metrics"], [others, "others"]] as const;
  const words = parts.filter(([n]) => n > 0).map(([n, word]) => `${n} ${n === 1 ? word.slice(0, -1) : word}`);
  return words.length ? `${words.join(", ")} ${equal.length === 1 ? "is" : "are"}` : "None is";
}

const GROUPS: readonly [title: string, test: (id: string) => boolean][] = [
  ["Metrics, last value", (id) => id.startsWith("metrics.")],
  ["Params", (id) => id.startsWith("params.")],
  ["The run and its code", (id) => !/^(metrics|params)\./.test(id)],
];

function Shown({ row, value, best }: { row: Difference; value: Cell; best: boolean }): JSX.Element {
  const { id } = row;
  if (value === null || value === undefined) return <span class="q">–</span>;
  if (id.startsWith("metrics.")) {
    const decimals = places(row.values.flatMap((one) => (typeof one === "number" ? [one] : [])));
    return best ? <b class="best" title="the best of these"><Num value={value as Value} decimals={decimals} /></b> : <Num value={value as Value} decimals={decimals} />;
  }
  if (id === "status") return <Status status={String(value)} />;
  if (id === "duration_s") return <Duration seconds={Number(value)} />;
  if (id.endsWith("_time")) return <Time at={String(value)} />;
  if (id === "git_commit") return <span class="mono" title={String(value)}>{String(value).slice(0, 8)}</span>;
  if (id === "events_missing" && Number(value) > 0) return <span class="st warn"><Icon name="warn" />{count(Number(value))}</span>;
  return typeof value === "number" ? <Num value={value} /> : <Text title={String(value)}>{String(value)}</Text>;
}

function RunName({ run }: { run: Run }): JSX.Element {
  return <a class={`v ${colourOf(String(run.run_id))}`} href={linkTo(`/runs/${encodeURIComponent(String(run.run_id))}`)} title={nameOfRun(run)}><bdi class="cut">{nameOfRun(run)}</bdi></a>;
}

/** A run is a column. */
function Across({ runs, rows }: { runs: readonly Run[]; rows: readonly Difference[] }): JSX.Element {
  const [most, setMost] = useState(ROWS_AT_FIRST);
  const drawn = rows.slice(0, most);
  return (
    <div class="wide compare" tabIndex={0} role="region" aria-label="What differs">
      <table class="tbl flush">
        <thead><tr><th class="stick">{count(runs.length)} runs</th>{runs.map((run) => <th key={String(run.run_id)} class="num"><RunName run={run} /></th>)}</tr></thead>
        {GROUPS.map(([title, test]) => {
          const members = drawn.filter((row) => test(row.id));
          return members.length > 0 && (
            <tbody key={title}>
              <tr class="group-row"><th scope="rowgroup" colSpan={runs.length + 1}>{title}</th></tr>
              {members.map((row) => (
                <tr key={row.id} class={row.differs ? "" : "dim"}>
                  <th scope="row" class="stick"><Text title={row.id}>{titleOf(row.id)}</Text></th>
                  {row.values.map((value, i) => <td key={i} class="num"><Shown row={row} value={value} best={row.best === i} /></td>)}
                </tr>
              ))}
            </tbody>
          );
        })}
      </table>
      {rows.length > most && <button type="button" class="btn s" onClick={() => setMost(rows.length)}>{count(rows.length - most)} more rows</button>}
    </div>
  );
}

/** A run is a row. */
function Down({ runs, rows }: { runs: readonly Run[]; rows: readonly Difference[] }): JSX.Element {
  const drawn = GROUPS.flatMap(([, test]) => rows.filter((row) => test(row.id))).slice(0, ROWS_AT_FIRST);
  const numeric = (row: Difference): boolean => row.values.every((value) => value === null || value === undefined || asNumber(value) !== null);
  return (
    <div class="wide compare" tabIndex={0} role="region" aria-label="What differs">
      <table class="tbl flush">
        <thead><tr><th class="stick">Run</th>{drawn.map((row) => <th key={row.id} class={numeric(row) ? "num" : ""} title={row.id}><bdi>{titleOf(row.id)}</bdi></th>)}</tr></thead>
        <tbody>
          {runs.map((run, i) => (
            <tr key={String(run.run_id)}>
              <th scope="row" class="stick"><RunName run={run} /></th>
              {drawn.map((row) => <td key={row.id} class={numeric(row) ? "num" : ""}><Shown row={row} value={row.values[i]} best={row.best === i} /></td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Open a run, from a drawing. */
export function openRun(run: Run): void {
  go(linkTo(`/runs/${encodeURIComponent(String(run.run_id))}`));
}

