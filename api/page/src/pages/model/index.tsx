// A model: what holds its aliases and stages, its timeline, its versions, and what was refused.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { get } from "../../client/api.ts";
import type { PageProps } from "../../frame/match.ts";
import { useAnswer } from "../../parts/answer.ts";
import { Blame } from "../../parts/blame.tsx";
import { ChangeDialog, type Wish } from "../../parts/change.tsx";
import { Icon } from "../../parts/icon.tsx";
import { Page, Writes } from "../../parts/page.tsx";
import { Failed, Loaded } from "../../parts/states.tsx";
import { Actor, Duration, Num, Position, Reason, Time } from "../../parts/values.tsx";
import { Holds, Version } from "../../parts/version.tsx";
import { asNumber, places, type Value } from "../../pure/format.ts";
import { changes, formerHolders, inOrder, presets, wholeSpan, type Refusal, type Span, type Timeline } from "../../pure/timeline.ts";
import { linkTo, place, setQuery } from "../../state/location.ts";
import { useLooked } from "../../state/looked.ts";
import { isPast, moment } from "../../state/moment.ts";
import { Gantt, GanttTable } from "./gantt.tsx";

interface Model {
  model: string;
  description: string | null;
  created_at: string;
  tags: Record<string, string>;
}

export interface History extends Timeline {
  position: string | null;
}

export default function ModelPage({ params }: PageProps): JSX.Element {
  const name = params.model!;
  const at = moment.value;
  const metric = place.value.query.get("metric");
  const path = `/api/v1/models/${encodeURIComponent(name)}`;
  const model = useAnswer(`${path} ${at ?? ""}`, (signal) => get<Model>(path, { as_of: at }, signal));
  const history = useAnswer(`${path} ${at ?? ""} ${metric ?? ""}`, (signal) => get<History>(`${path}/timeline`, { to: at, metric }, signal));
  const [wish, setWish] = useState<Wish | null>(null);
  const offset = history.data?.position ? Number(history.data.position.split(":")[2]) : null;
  const looked = useLooked(`model ${name}`, offset);
  return (
    <Page
      crumbs={[{ text: "Models", href: "/models" }, { text: name }]}
      acts={<Writes><button class="btn main-act" type="button" onClick={() => setWish({ act: "promote" })}>Promote…</button></Writes>}
    >
      {model.error ? <Failed error={model.error} again={model.again} at={model.at} /> : null}
      <h1><bdi>{name}</bdi></h1>
      {model.data && <Description model={model.data} />}
      <Loaded answer={history}>
        {(timeline) => (
          <>
            <Holders timeline={timeline} ask={setWish} />
            <TimelineSection timeline={timeline} looked={looked?.at ?? null} />
            <Versions timeline={timeline} />
            <Refused refused={timeline.refused} model={name} looked={looked?.offset ?? null} />
          </>
        )}
      </Loaded>
      {wish && <ChangeDialog model={name} wish={wish} close={() => setWish(null)} />}
    </Page>
  );
}

function Description({ model }: { model: Model }): JSX.Element {
  const tags = Object.entries(model.tags);
  return (
    <>
      <p class="q2 about">
        {model.description
          ? <Blame model={model.model} target={{ what: "description", version: null }}><bdi>{model.description}</bdi></Blame>
          : <span class="q">No description.</span>}
      </p>
      {tags.length > 0 && (
        <p class="tags">
          {tags.map(([key, value]) => (
            <Blame key={key} model={model.model} target={{ what: "tag", version: null, name: key }}>
              <span class="chip"><bdi>{key}</bdi> <b><bdi>{value}</bdi></b></span>
            </Blame>
          ))}
        </p>
      )}
    </>
  );
}

/** Who holds each alias and stage. A stage of several versions is a row each. */
function Holders({ timeline, ask }: { timeline: Timeline; ask: (wish: Wish) => void }): JSX.Element {
  const rows = inOrder(timeline.lanes)
    .filter((lane) => lane.name !== "Archived")
    .flatMap((lane) => lane.bars.filter((bar) => bar.to_offset === null).map((bar) => ({ lane, bar })));
  if (rows.length === 0) return <p class="q section-gap">No version holds an alias or a stage.</p>;
  return (
    <section class="section-gap" aria-label="Holders">
      <table class="tbl flush open rows">
        <thead><tr><th>Holds</th><th>Version</th><th>Since</th><th>By</th><th>Why</th><th class="num desk">Offset</th><Writes><th class="desk"><span class="sr">Acts</span></th></Writes></tr></thead>
        <tbody>
          {rows.map(({ lane, bar }) => (
            <tr key={`${lane.name} ${bar.version}`}>
              <td><Holds kind={lane.kind} name={lane.name} /></td>
              <td><Version model={timeline.model} version={bar.version} /></td>
              <td><Time at={bar.valid_from} relative /></td>
              <td><Actor name={bar.set_by} verified={bar.verified} /></td>
              <td class="cut why"><Reason text={bar.reason} /></td>
              <td class="num desk"><Position offset={bar.from_offset} /></td>
              <Writes>
                <td class="num act">
                  {lane.kind === "alias" && formerHolders(lane).length > 0
                    && <button class="btn s" type="button" onClick={() => ask({ act: "roll back", alias: lane.name })} aria-label={`Roll back @${lane.name}`}>Roll back…</button>}
                </td>
              </Writes>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function TimelineSection({ timeline, looked }: { timeline: Timeline; looked: number | null }): JSX.Element {
  const query = place.value.query;
  const [table, setTable] = useState(false);
  const moments = changes(timeline);
  const now = shownTime() ?? Date.now();
  const whole = wholeSpan(moments, now);
  const span = chosenSpan(query, whole, now);
  const chosen = query.get("span") ?? (query.get("from") ? null : "All");
  const overridden = timeline.lanes.some((lane) => lane.bars.some((bar) => bar.override));
  return (
    <section aria-label="Timeline">
      <div class="head">
        <h2>Timeline</h2>
        <span class="q desk">
          bars are versions
          {timeline.refused.length > 0 && <> · <span class="st bad"><Icon name="cross" />refused</span></>}
          {overridden && <> · <span class="st warn"><Icon name="bolt" />rule overridden</span></>}
        </span>
        <span class="gap" />
        {timeline.metrics.length > 1 && (
          <label><span class="sr">Metric</span>
            <select class="field s" value={timeline.metric ?? ""} onChange={(event) => setQuery({ metric: event.currentTarget.value })}>
              {timeline.metrics.map((key) => <option key={key} value={key}>{key}</option>)}
            </select>
          </label>
        )}
        {moments.length > 1 && !table && (
          <span class="group" role="group" aria-label="Window">
            {[...presets(whole).map(([name]) => name), "All"].map((name) => (
              <button key={name} class="btn s" type="button" aria-pressed={chosen === name} onClick={() => setQuery({ span: name === "All" ? null : name, from: null, to: null })}>{name}</button>
            ))}
          </span>
        )}
        <button class="btn s" type="button" aria-pressed={table} onClick={() => setTable(!table)}>{table ? "Drawing" : "Table"}</button>
      </div>
      {timeline.lanes.length === 0
        ? <p class="q">No alias and no stage has been set yet.</p>
        : table ? <GanttTable timeline={timeline} />
        : <Gantt
            timeline={timeline} span={span} looked={looked}
            now={{ at: now, text: isPast.value ? "you see" : "now" }}
            zoom={({ from, to }) => setQuery({ span: null, from: new Date(from).toISOString(), to: new Date(to).toISOString() })}
          />}
      {!table && !isPast.value && span.to < now && <p class="q s12">Nothing has changed after this, for <Duration seconds={(now - (moments[moments.length - 1] ?? now)) / 1000} />. Drag over a part to see it closer.</p>}
    </section>
  );
}

/** The time of the moment in the address, if it is a time and no position. */
function shownTime(): number | null {
  const at = moment.value;
  const found = at === null || at.startsWith("registry:") ? NaN : Date.parse(at);
  return Number.isNaN(found) ? null : found;
}

function chosenSpan(query: URLSearchParams, whole: Span, now: number): Span {
  const [from, to] = [Date.parse(query.get("from") ?? ""), Date.parse(query.get("to") ?? "")];
  if (from < to) return { from, to };
  const size = presets(whole).find(([name]) => name === query.get("span"))?.[1];
  const end = Math.max(whole.to, Math.min(now, whole.to));
  return size ? { from: end - size, to: end } : whole;
}

function Versions({ timeline }: { timeline: Timeline }): JSX.Element {
  const values = timeline.versions.map((one) => asNumber((one.metric ?? NaN) as Value));
  const decimals = places(values);
  return (
    <section aria-label="Versions">
      <div class="head">
        <h2>Versions</h2><span class="q desk">the metric is the run's latest value</span><span class="gap" />
        <a class="btn s" href={linkTo("/diff", { model: timeline.model })}>Diff of two moments…</a>
      </div>
      {timeline.versions.length === 0 ? <p class="q">No versions yet.</p> : (
        <table class="tbl flush open rows">
          <thead><tr><th>Version</th><th>Holds</th><th class="desk">Stage</th>{timeline.metric && <th class="num"><bdi>{timeline.metric}</bdi></th>}<th>Run</th><th>Created</th></tr></thead>
          <tbody>
            {timeline.versions.map((one) => (
              <tr key={one.version}>
                <td><Version model={timeline.model} version={one.version} /></td>
                <td class="holds">{one.aliases.map((alias) => (
                  <Blame key={alias} model={timeline.model} target={{ what: "alias", name: alias }}><Holds kind="alias" name={alias} /></Blame>
                ))}</td>
                <td class="desk">{one.stage && one.stage !== "None"
                  ? <Blame model={timeline.model} target={{ what: "stage", version: one.version }}>{one.stage}</Blame>
                  : <span class="q">–</span>}</td>
                {timeline.metric && <td class="num"><Num value={one.metric} decimals={decimals} /></td>}
                <td class="cut run-cell">{one.run_id ? <a class="a mono" href={linkTo(`/runs/${one.run_id}`)}>{one.run_id.slice(0, 8)}</a> : <span class="q">–</span>}</td>
                <td><Time at={one.created_at} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Refused({ refused, model, looked }: { refused: readonly Refusal[]; model: string; looked: number | null }): JSX.Element | null {
  if (refused.length === 0) return null;
  const shown = [...refused].reverse().slice(0, 20);
  return (
    <section aria-label="Refused">
      <div class="head"><h2>Refused</h2><span class="q">asked, and without effect</span><span class="gap" />
        <a class="a s12" href={linkTo("/audit", { model, outcome: "refused" })}>All in the trail</a></div>
      <table class="tbl flush open rows">
        <thead><tr><th class="num desk">Offset</th><th>When</th><th>By</th><th>Asked</th><th>Refused because</th></tr></thead>
        <tbody>
          {shown.map((one) => (
            <tr key={one.log_offset} class={looked !== null && one.log_offset > looked ? "fresh" : ""}>
              <td class="num desk"><Position offset={one.log_offset} /></td>
              <td><Time at={one.appended_at} /></td>
              <td><Actor name={one.actor} verified={one.verified} /></td>
              <td class="cut">{one.alias ? `@${one.alias}` : one.stage ?? ""} → {one.version ?? "–"}</td>
              <td class="wrap because"><bdi title={one.code ?? ""}>{one.message}</bdi></td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
