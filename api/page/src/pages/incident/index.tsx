// Incident: what served at a moment, who changed what before it, what was refused, and which runs went silent.
import type { ComponentChildren, JSX } from "preact";
import { get } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { copyText } from "../../parts/copy.tsx";
import { Icon } from "../../parts/icon.tsx";
import { MomentField } from "../../parts/moment-field.tsx";
import { Page } from "../../parts/page.tsx";
import { saveText } from "../../parts/save.ts";
import { Loaded } from "../../parts/states.tsx";
import { Actor, Position, Reason, Text, Time } from "../../parts/values.tsx";
import { Holds, Version } from "../../parts/version.tsx";
import { asked, subject, words, type TrailEvent } from "../../pure/events.ts";
import { count, duration } from "../../pure/format.ts";
import { inOrder } from "../../pure/timeline.ts";
import { linkTo, place, setQuery } from "../../state/location.ts";
import { moment, showMoment } from "../../state/moment.ts";

interface Incident {
  at: string;
  position: string | null;
  from: string;
  holders: { model: string; kind: "alias" | "stage"; name: string; version: number; since: string; set_by: string | null; verified: boolean | null; reason: string | null; from_offset: number }[];
  changes: TrailEvent[];
  refused: TrailEvent[];
  more: boolean;
  silent_runs: { run_id: string; name: string | null; experiment_name: string | null; user: string | null; last_seen: string | null }[];
  markdown: string;
}

const MINUTES = [15, 60, 240, 1440];

export default function IncidentPage(): JSX.Element {
  const at = moment.value;
  const minutes = Math.min(Math.max(Number(place.value.query.get("minutes")) || 60, 1), 10_080);
  const answer = useAnswer(`incident ${at ?? ""} ${minutes}`, (signal) => get<Incident>("/api/v1/incident", { at, minutes }, signal));
  return (
    <Page
      crumbs={[{ text: "Audit", href: "/audit" }, { text: "Incident" }]}
      acts={<>
        <button class="btn desk" type="button" disabled={!answer.data} onClick={() => answer.data && saveText("incident.md", answer.data.markdown, "text/markdown")}><Icon name="load" />Save Markdown</button>
        <button class="btn main-act" type="button" disabled={!answer.data} onClick={() => answer.data && void copyText(answer.data.markdown)}>Copy for the ticket</button>
      </>}
    >
      <h1>What was so, and what had just changed</h1>
      <div class="ask-moments">
        <MomentField label="When it went wrong" at={at} change={showMoment} />
        <span class="group" role="group" aria-label="Look back">
          {MINUTES.map((one) => <button key={one} class="btn" type="button" aria-pressed={minutes === one} onClick={() => setQuery({ minutes: one === 60 ? null : String(one) })}>{duration(one * 60)}<span class="desk"> before</span></button>)}
        </span>
      </div>
      <Loaded answer={answer}>
        {(found) => (
          <>
            <p class="q2 section-gap">At <b class="b5"><Time at={found.at} /></b>{found.position && <>, offset <Position offset={Number(found.position.split(":")[2])} /></>}; changes since <Time at={found.from} />.</p>
            <Part title="What served" note="aliases, and the stages Production and Staging" empty="No version held an alias or a stage." of={found.holders}>
              <table class="tbl flush open rows">
                <thead><tr><th>Model</th><th>Holds</th><th>Version</th><th>Since</th><th>By</th><th>Why</th></tr></thead>
                <tbody>{inOrder(found.holders).sort((a, b) => a.model.localeCompare(b.model)).map((one) => (
                  <tr key={`${one.model} ${one.kind} ${one.name} ${one.version}`} class={Date.parse(one.since) >= Date.parse(found.from) ? "fresh" : ""}>
                    <td class="cut key-cell"><a class="b5" href={linkTo(`/models/${encodeURIComponent(one.model)}`)}><bdi>{one.model}</bdi></a></td>
                    <td><Holds kind={one.kind} name={one.name} /></td><td><Version model={one.model} version={one.version} /></td>
                    <td><Time at={one.since} /></td><td><Actor name={one.set_by} verified={one.verified} /></td><td class="cut why"><Reason text={one.reason} /></td>
                  </tr>
                ))}</tbody>
              </table>
            </Part>
            <Part title="Changed" note={`in the ${duration(minutes * 60)} before, newest first`} empty="Nothing was changed." of={found.changes}><Events events={found.changes} /></Part>
            <Part title="Refused" note="asked, and without effect" empty="Nothing was refused." of={found.refused}><Events events={found.refused} /></Part>
            <Part title="Runs that went silent" note="their events stopped, without an end" empty="None." of={found.silent_runs}>
              <table class="tbl flush open rows">
                <thead><tr><th>Run</th><th>Experiment</th><th>User</th><th>Last seen</th></tr></thead>
                <tbody>{found.silent_runs.map((run) => (
                  <tr key={run.run_id}><td class="cut key-cell"><a class="a" href={linkTo(`/runs/${run.run_id}`)}><Text title={run.run_id}>{run.name ?? run.run_id}</Text></a></td><td class="cut key-cell"><Text>{run.experiment_name}</Text></td><td><Text>{run.user}</Text></td><td><Time at={run.last_seen} relative /></td></tr>
                ))}</tbody>
              </table>
            </Part>
            {found.more && <p class="note warn section-gap">Only the newest {count(found.changes.length + found.refused.length)} requests are shown. Look back less far, or see <a href={linkTo("/audit")}>the trail</a>.</p>}
            <p class="print-foot">{location.href} · printed {new Date().toISOString()}</p>
          </>
        )}
      </Loaded>
    </Page>
  );
}

function Part({ title, note, empty, of, children }: { title: string; note: string; empty: string; of: readonly unknown[]; children: ComponentChildren }): JSX.Element {
  return (
    <section aria-label={title}>
      <div class="head"><h2>{title}</h2><span class="q">{of.length === 0 ? empty : note}</span></div>
      {of.length > 0 && children}
    </section>
  );
}

function Events({ events }: { events: readonly TrailEvent[] }): JSX.Element {
  return (
    <table class="tbl flush open rows">
      <thead><tr><th class="num">Offset</th><th>When</th><th>By</th><th>Asked</th><th>Why</th></tr></thead>
      <tbody>{events.map((event) => (
        <tr key={event.log_offset}>
          <td class="num"><Position offset={event.log_offset} /></td><td><Time at={event.appended_at} /></td>
          <td><Actor name={event.actor} verified={event.actor_verified} /></td>
          <td class="wrap"><bdi class="b5">{subject(event)}</bdi> <bdi>{asked(event) || words(event.type)}</bdi>{event.message && <span class="under"><bdi>{event.message}</bdi></span>}</td>
          <td class="cut why"><Reason text={event.reason} /></td>
        </tr>
      ))}</tbody>
    </table>
  );
}
