// One run, now or at a moment: how it is and whether all of it is here, params, metrics, data, code, what was made of
// it, charts, artifacts, and its events. From `GET /api/v1/runs/{run_id}` and what hangs on it.
import { useState } from "preact/hooks";
import type { JSX } from "preact";
import "./run.css";
import { get, query, type ApiError } from "../../client/api.ts";
import { useLive } from "../../client/live.ts";
import type { PageProps } from "../../frame/match.ts";
import { useAnswer, type Answer } from "../../parts/answer.ts";
import { Icon } from "../../parts/icon.tsx";
import { LazyCharts } from "../../parts/lazy.tsx";
import { CopyAs } from "../../parts/menu.tsx";
import { Page } from "../../parts/page.tsx";
import { Loaded, NothingFound } from "../../parts/states.tsx";
import { Actor, colourOf, Duration, Num, Status, Text, Time } from "../../parts/values.tsx";
import { asPython, shellText, sqlText } from "../../pure/copies.ts";
import { quoted } from "../../pure/filter.ts";
import { count, places, type Value } from "../../pure/format.ts";
import { linkTo, place } from "../../state/location.ts";
import { moment } from "../../state/moment.ts";
import { Artifacts, type Artifact } from "./artifacts.tsx";
import { Events } from "./events.tsx";

interface Metric {
  key: string;
  step: number;
  value: Value;
  points: number;
  min_value: Value | null;
  max_value: Value | null;
  model_id: string | null;
  dataset_name: string | null;
}
interface Run {
  run_id: string;
  name: string | null;
  experiment_id: string;
  experiment_name: string | null;
  status: string;
  start_time: string | null;
  end_time: string | null;
  duration_s: number | null;
  user: string | null;
  actor: string | null;
  actor_verified?: boolean | null;
  parent_run_id: string | null;
  host: string | null;
  entry_point: string | null;
  python_version: string | null;
  git_commit: string | null;
  git_branch: string | null;
  git_dirty: boolean | null;
  git_remote: string | null;
  message: string | null;
  deleted: boolean;
  complete: boolean;
  events_missing: number;
  events_after_end: number;
  points_logged: number | null;
  points_dropped: number;
  points_stored: number;
  last_seen: string | null;
  params: Record<string, string>;
  tags: Record<string, string>;
  metrics: Metric[];
  datasets: { name: string; digest: string; source_type?: string | null; tags?: Record<string, string> | null }[];
  artifacts: Artifact[];
  param_conflicts?: { key: string; value: string; appended_at?: string; kept?: string }[];
  gaps?: { producer: string; actor: string | null; first: number; last: number }[];
  children?: { run_id: string; name?: string | null; run_name?: string | null; status: string }[];
  children_count?: number;
  versions?: { model: string; version: number; stage?: string | null; aliases?: string[] }[];
  last_event?: string | null;
}

const CHARTS_AT_FIRST = 8;
const LISTED = 60;
const SYSTEM = "system/";

export default function RunPage({ params }: PageProps): JSX.Element {
  const id = params.run!;
  const asOf = moment.value;
  const answer = useAnswer(`run ${id} ${asOf}`, (signal) => get<Run>(`/api/v1/runs/${encodeURIComponent(id)}`, { as_of: asOf }, signal));
  useLive(asOf === null ? { runs: [id] } : null, { runs: answer.again, resumed: answer.again });
  const run = answer.data?.run_id === id ? answer.data : null;
  const name = run?.name || id;
  const tab = place.value.query.get("tab") ?? "overview";
  const gone = answer.error !== null && (answer.error.status === 404 || answer.error.status === 403);
  return (
    <Page
      crumbs={[
        { text: "Runs", href: "/runs" },
        ...(run ? [{ text: run.experiment_name ?? run.experiment_id, href: `/runs?experiments=${encodeURIComponent(run.experiment_id)}` }] : []),
        { text: name },
      ]}
      acts={run && (
        <>
          <CopyAs texts={copies(run)} />
          <a class="btn desk" href={linkTo("/compare", { runs: [run.run_id, ...(run.parent_run_id ? [run.parent_run_id] : [])].join(",") })}>Compare</a>
        </>
      )}
    >
      {gone ? <Gone id={id} error={answer.error!} past={asOf !== null} /> : (
        <Loaded answer={run === null && answer.data !== null ? { ...answer, data: null } as Answer<Run> : answer} rows={12}>
          {(found) => (
            <>
              <Title run={found} />
              <nav class="tabs" aria-label="Parts of the run">
                {([["overview", "Overview", null], ["artifacts", "Artifacts", found.artifacts.length], ["events", "Events", null]] as const).map(([key, text, n]) => (
                  <a key={key} href={linkTo(place.value.path, { tab: key === "overview" ? null : key })} aria-current={tab === key ? "true" : undefined}>
                    {text}{n !== null && n > 0 && <span class="q">{count(n)}</span>}
                  </a>
                ))}
              </nav>
              {tab === "artifacts" ? <Artifacts runId={found.run_id} artifacts={found.artifacts} />
                : tab === "events" ? <Events runId={found.run_id} />
                : <Overview run={found} />}
            </>
          )}
        </Loaded>
      )}
    </Page>
  );
}

function Gone({ id, error, past }: { id: string; error: ApiError; past: boolean }): JSX.Element {
  return (
    <NothingFound what={error.status === 403 ? "You may not see this run" : past ? "This run did not exist at this moment" : "This run is not here"}>
      {error.status === 403 ? error.message : <>There is no run <code>{id}</code> that you may read. It may be of another server, or its experiment may not be shared with you.</>}
    </NothingFound>
  );
}

function Title({ run }: { run: Run }): JSX.Element {
  const name = run.name || run.run_id;
  const parent = useAnswer(run.parent_run_id ? `parent ${run.parent_run_id}` : null, (signal) =>
    query<{ rows: { run_name: string | null }[] }>("/api/v1/runs/query", { filter: `run_id = ${quoted(run.parent_run_id!)}`, columns: ["run_name"], view: "all", limit: 1 }, signal));
  const missing = run.events_missing > 0;
  return (
    <>
      <h1 class="run-title"><span class={`dot ${colourOf(run.run_id)}`} /><bdi>{name}</bdi></h1>
      <p class="q2 run-line">
        <Status status={run.status} />{" "}
        {run.end_time ? <Time at={run.end_time} /> : run.start_time && <>since <Time at={run.start_time} relative /></>}
        {run.duration_s !== null && run.end_time && <> after <Duration seconds={run.duration_s} /></>}
        {run.user && <>, started by <Actor name={run.user} verified={run.actor === run.user && run.actor_verified} /></>}
        {run.host && <> on <Text>{run.host}</Text></>}
        {run.parent_run_id && <>, within <a class="a" href={linkTo(`/runs/${encodeURIComponent(run.parent_run_id)}`)}><bdi>{parent.data?.rows[0]?.run_name || run.parent_run_id.slice(0, 12)}</bdi></a></>}
        {run.status === "RUNNING" && run.last_seen && <>; last heard <Time at={run.last_seen} relative /></>}.{" "}
        <span class="mono q">{run.run_id}</span>
      </p>
      {run.deleted && <p class="note warn"><b>Deleted.</b> Its events stay in the log, and it can be restored in the list of deleted runs.</p>}
      {run.message && <p class="note bad"><b>It ended with:</b> <Text>{run.message}</Text></p>}
      {(missing || run.points_dropped > 0) && (
        <p class="note warn">
          <b>Not complete.</b>{" "}
          {missing && <>{count(run.events_missing)} {run.events_missing === 1 ? "event is" : "events are"} missing from the log{run.gaps?.length ? ` (sequence ${run.gaps.slice(0, 3).map((gap) => (gap.first === gap.last ? gap.first : `${gap.first} to ${gap.last}`)).join(", ")}${run.gaps.length > 3 ? ", …" : ""})` : ""}. </>}
          {run.points_logged !== null && <>{count(run.points_stored)} of {count(run.points_logged)} points are here. </>}
          {run.points_dropped > 0 && <>{count(run.points_dropped)} were dropped by the producer.</>}
        </p>
      )}
      {run.events_after_end > 0 && <p class="note">{count(run.events_after_end)} {run.events_after_end === 1 ? "event" : "events"} came after the end and {run.events_after_end === 1 ? "was" : "were"} kept.</p>}
    </>
  );
}

function Overview({ run }: { run: Run }): JSX.Element {
  const own = run.metrics.filter((metric) => !metric.key.startsWith(SYSTEM));
  const system = [...new Set(run.metrics.filter((metric) => metric.key.startsWith(SYSTEM)).map((metric) => metric.key))];
  const keys = [...new Set(own.map((metric) => metric.key))];
  const [shown, setShown] = useState(CHARTS_AT_FIRST);
  const [machine, setMachine] = useState(false);
  const name = run.name || run.run_id.slice(0, 8);
  const tags = Object.entries(run.tags).filter(([key]) => !key.startsWith("mlflow.") || key === "mlflow.note.content");
  return (
    <div class="two">
      <div class="about">
        <Params run={run} />
        <Metrics metrics={own} />
        {run.datasets.length > 0 && (
          <section>
            <div class="head"><h2>Data</h2></div>
            <dl class="kv">{run.datasets.map((one) => <><dt key={one.name}><Text title={one.name}>{one.name}</Text></dt><dd><span class="mono">{one.digest}</span>{one.tags?.["mlflow.data.context"] && <span class="q"> · {one.tags["mlflow.data.context"]}</span>}</dd></>)}</dl>
          </section>
        )}
        {(run.git_commit || run.entry_point || run.python_version) && (
          <section>
            <div class="head"><h2>Code</h2></div>
            <dl class="kv">
              {run.git_commit && <><dt>commit</dt><dd><span class="mono" title={run.git_commit}>{run.git_commit.slice(0, 10)}</span> <Text>{run.git_branch}</Text> <span class="q">{run.git_dirty ? "with changes" : run.git_dirty === false ? "clean" : ""}</span></dd></>}
              {run.entry_point && <><dt>entry</dt><dd class="mono"><bdi>{run.entry_point}</bdi></dd></>}
              {run.python_version && <><dt>python</dt><dd>{run.python_version}</dd></>}
              {run.host && <><dt>host</dt><dd><bdi>{run.host}</bdi></dd></>}
            </dl>
          </section>
        )}
        {run.versions && run.versions.length > 0 && (
          <section>
            <div class="head"><h2>Made of it</h2></div>
            <ul>{run.versions.map((one) => (
              <li key={`${one.model} ${one.version}`}>
                <a class={`v a ${colourOf(`${one.model} ${one.version}`)}`} href={linkTo(`/models/${encodeURIComponent(one.model)}/versions/${one.version}`)}><bdi>{one.model}</bdi> {one.version}</a>{" "}
                {one.aliases?.map((alias) => <span key={alias} class="chip alias">@{alias}</span>)}
                {one.stage && one.stage !== "None" && <span class="chip">{one.stage}</span>}
              </li>
            ))}</ul>
          </section>
        )}
        {run.children && run.children.length > 0 && (
          <section>
            <div class="head"><h2>Runs below</h2><span class="q">{count(run.children_count ?? run.children.length)}</span></div>
            <ul class="children">{run.children.slice(0, 20).map((child) => (
              <li key={child.run_id}><span class={`dot ${colourOf(child.run_id)}`} /><a class="cut" href={linkTo(`/runs/${encodeURIComponent(child.run_id)}`)}><bdi>{child.name ?? child.run_name ?? child.run_id}</bdi></a><Status status={child.status} /></li>
            ))}</ul>
            <a class="a s12" href={linkTo("/compare", { q: `parent_run_id = ${quoted(run.run_id)}` })}>Compare them</a>
          </section>
        )}
        {tags.length > 0 && (
          <section>
            <div class="head"><h2>Tags</h2></div>
            <p class="chips">{tags.slice(0, LISTED).map(([key, value]) => <span key={key} class="chip" title={`${key}: ${value}`}><bdi class="cut">{key}</bdi> <b class="cut"><bdi>{value}</bdi></b></span>)}</p>
          </section>
        )}
      </div>
      <div class="figures">
        {keys.length > 0
          ? <LazyCharts runs={[run.run_id]} keys={keys.slice(0, shown)} nameOf={() => name} columns height={200} />
          : <p class="q">No metrics{run.status === "RUNNING" ? " so far" : ""}.</p>}
        {keys.length > shown && <button type="button" class="btn" onClick={() => setShown(shown + CHARTS_AT_FIRST)}>{count(Math.min(CHARTS_AT_FIRST, keys.length - shown))} more of {count(keys.length)} metrics</button>}
        {system.length > 0 && (
          <section>
            <div class="head"><h2>The machine</h2><span class="q">{system.length} system metrics</span><span class="gap" /><button type="button" class="btn bare s" aria-expanded={machine} onClick={() => setMachine(!machine)}>{machine ? "Hide" : "Show"}</button></div>
            {machine && <LazyCharts runs={[run.run_id]} keys={system.slice(0, 40)} system nameOf={() => name} columns height={140} controls={false} />}
          </section>
        )}
      </div>
    </div>
  );
}

function Params({ run }: { run: Run }): JSX.Element {
  const [written, setWritten] = useState("");
  const all = Object.entries(run.params);
  const found = all.filter(([key, value]) => !written || `${key} ${value}`.toLowerCase().includes(written.toLowerCase()));
  const refused = new Map<string, NonNullable<Run["param_conflicts"]>>();
  for (const one of run.param_conflicts ?? []) refused.set(one.key, [...(refused.get(one.key) ?? []), one]);
  return (
    <section>
      <div class="head"><h2>Params</h2>{all.length > 0 && <span class="q">{count(all.length)}</span>}</div>
      {all.length > 12 && <input class="field" type="search" aria-label="Find a param" placeholder="Find a param" value={written} onInput={(event) => setWritten(event.currentTarget.value)} />}
      {all.length === 0 && <p class="q">No params.</p>}
      <dl class="kv">
        {found.slice(0, LISTED).map(([key, value]) => (
          <>
            <dt key={key}><Text title={key}>{key}</Text></dt>
            <dd>
              <bdi>{value.length > 300 ? `${value.slice(0, 300)}…` : value}</bdi>
              {refused.get(key)?.map((one, i) => (
                <div key={i} class="st warn s12" title="A param is set once. A later value for it is refused, and kept here."><Icon name="warn" /><bdi>{one.value}</bdi> was refused{one.appended_at && <>, <Time at={one.appended_at} /></>}</div>
              ))}
            </dd>
          </>
        ))}
      </dl>
      {found.length > LISTED && <p class="q s12">{count(found.length - LISTED)} more: type to find them</p>}
    </section>
  );
}

function Metrics({ metrics }: { metrics: readonly Metric[] }): JSX.Element | null {
  const [written, setWritten] = useState("");
  if (metrics.length === 0) return null;
  const found = metrics.filter((metric) => metric.key.toLowerCase().includes(written.toLowerCase()));
  return (
    <section>
      <div class="head"><h2>Metrics</h2><span class="q">{count(metrics.length)}</span></div>
      {metrics.length > 12 && <input class="field" type="search" aria-label="Find a metric" placeholder="Find a metric" value={written} onInput={(event) => setWritten(event.currentTarget.value)} />}
      <div class="wide">
        <table class="tbl flush open">
          <thead><tr><th>Metric</th><th class="num">last</th><th class="num">min</th><th class="num">max</th></tr></thead>
          <tbody>
            {found.slice(0, LISTED).map((metric, i) => {
              const decimals = places([metric.value, metric.min_value, metric.max_value].flatMap((value) => (typeof value === "number" ? [value] : [])));
              return (
                <tr key={i} title={`${metric.key}: ${count(metric.points)} points, the last at step ${metric.step}`}>
                  <td class="metric-name"><Text>{metric.key}</Text>{metric.dataset_name && <span class="q"> {metric.dataset_name}</span>}</td>
                  <td class="num b5"><Num value={metric.value} decimals={decimals} /></td>
                  <td class="num q2"><Num value={metric.min_value} decimals={decimals} /></td>
                  <td class="num q2"><Num value={metric.max_value} decimals={decimals} /></td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {found.length > LISTED && <p class="q s12">{count(found.length - LISTED)} more: type to find them</p>}
    </section>
  );
}

function copies(run: Run): Record<string, () => string> {
  const id = run.run_id;
  const origin = JSON.stringify(location.origin);
  return {
    "Run id": () => id,
    SQL: () => `SELECT key, step, value FROM metrics WHERE run_id = ${sqlText(id)} ORDER BY key, step`,
    curl: () => `curl -s ${shellText(`${location.origin}/api/v1/runs/${encodeURIComponent(id)}`)}`,
    Python: () => asPython(`FROM metrics WHERE run_id = ${sqlText(id)}`, location.origin),
    MLflow: () => `import mlflow\n\nmlflow.set_tracking_uri(${origin})\nmlflow.get_run(${JSON.stringify(id)})\n`,
  };
}
