// One event of the log: what it says, by which schema, and what it did. From `GET /api/v1/events/{position}`,
// and for a request to the registry `GET /api/v1/audit/{offset}`.
import type { JSX } from "preact";
import { get } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { Icon } from "../../parts/icon.tsx";
import { Loaded } from "../../parts/states.tsx";
import { Actor, Reason, Text, Time } from "../../parts/values.tsx";
import { bytes } from "../../pure/format.ts";
import type { Line } from "../../pure/tail.ts";
import { match } from "../../frame/routes.ts";
import { linkTo } from "../../state/location.ts";

interface EventAnswer {
  position: string;
  appended_at: string;
  type: string | null;
  bytes: number;
  schema: { fingerprint: string; doc: string | null; fields: { name: string; type: string; doc: string | null }[] } | null;
  event: Record<string, unknown> | null;
  error: string | null;
  cut: boolean;
}

interface Change {
  attribute: string;
  key: string | null;
  before: unknown;
  after: unknown;
  model: string | null;
  version: number | null;
  experiment_name: string | null;
}

export function OneEvent({ position, line, close }: { position: string; line: Line | null; close: () => void }): JSX.Element {
  const answer = useAnswer(`event ${position}`, (signal) => get<EventAnswer>(`/api/v1/events/${encodeURIComponent(position)}`, {}, signal));
  return (
    <section class="live-event" aria-label={`Event ${position}`} tabIndex={0}>
      <div class="head"><h2>{answer.data?.type ?? line?.type ?? "Event"}</h2><span class="q mono">{position}</span><span class="gap" /><button class="btn bare s sq" type="button" aria-label="Close the event" onClick={close}><Icon name="cross" /></button></div>
      <Loaded answer={answer} rows={6}>{(event) => <Opened event={event} line={line} />}</Loaded>
    </section>
  );
}

function Opened({ event, line }: { event: EventAnswer; line: Line | null }): JSX.Element {
  const envelope = (event.event?.envelope ?? {}) as Record<string, unknown>;
  const offset = /^registry:0:(\d+)$/.exec(event.position)?.[1];
  const run = typeof event.event?.run_id === "string" ? event.event.run_id : null;
  const fields = Object.entries(event.event ?? {}).filter(([name]) => name !== "envelope");
  const docs = new Map(event.schema?.fields.map((field) => [field.name, field]));
  return (
    <>
      <dl class="kv">
        <dt>Appended</dt><dd><Time at={event.appended_at} relative /></dd>
        <dt>Actor</dt><dd><Actor name={envelope.actor as string | null} verified={envelope.actor_verified as boolean | null} />{typeof envelope.client === "string" && <span class="q"> by <Text>{envelope.client}</Text></span>}</dd>
        {typeof envelope.reason === "string" && <><dt>Reason</dt><dd><Reason text={envelope.reason} /></dd></>}
        {run && <><dt>Run</dt><dd>{match(`/runs/${run}`) ? <a class="a mono" href={linkTo(`/runs/${encodeURIComponent(run)}`)}>{run}</a> : <span class="mono">{run}</span>}</dd></>}
        <dt>Size</dt><dd>{bytes(event.bytes)}</dd>
      </dl>
      {event.error && <p class="note warn">It had no effect: <Text>{event.error}</Text></p>}
      {offset !== undefined ? <Effect offset={offset} /> : line?.outcome === "applied" && <p class="s12 q2 effect"><Icon name="check" /> Applied to the tables of its run.</p>}
      <h3>Fields</h3>
      {event.cut && <p class="q s12">Long values are cut.</p>}
      <dl class="kv event-fields">
        {fields.map(([name, value]) => [
          <dt key={`${name}-t`} title={docs.get(name)?.doc ?? undefined}><code>{name}</code></dt>,
          <dd key={`${name}-d`}>{typeof value === "object" && value !== null
            ? <pre class="code" tabIndex={0}>{JSON.stringify(value, null, 1)}</pre>
            : <Text>{value === null ? <span class="q">null</span> : String(value)}</Text>}</dd>,
        ])}
      </dl>
      {event.schema && (
        <details class="schema">
          <summary>Schema <code>{event.schema.fingerprint}</code></summary>
          {event.schema.doc && <p class="s12 q2">{event.schema.doc}</p>}
          <dl class="kv">{event.schema.fields.map((field) => [<dt key={`${field.name}-t`}><code>{field.name}</code></dt>, <dd key={`${field.name}-d`}><span class="q">{field.type}</span> <span class="s12 q2">{field.doc}</span></dd>])}</dl>
        </details>
      )}
    </>
  );
}

/** What a request did to the registry, or why it did nothing. */
function Effect({ offset }: { offset: string }): JSX.Element {
  const answer = useAnswer(`effect ${offset}`, (signal) => get<{ accepted: boolean | null; code: string | null; message: string | null; changes: Change[] }>(`/api/v1/audit/${offset}`, {}, signal));
  return (
    <>
      <h3>Effect</h3>
      <Loaded answer={answer} rows={2}>
        {(audited) => audited.accepted === false
          ? <p class="note bad"><b>{audited.code}</b> <Text>{audited.message}</Text></p>
          : audited.changes.length === 0 ? <p class="q2 s12">Nothing that has a value changed.</p>
          : (
            <ul class="effects">
              {audited.changes.map((change, at) => (
                <li key={at}>
                  <Text>{[change.model ?? change.experiment_name, change.version && `version ${change.version}`, change.attribute === change.key ? change.key : [change.attribute, change.key].filter(Boolean).join(" ")].filter(Boolean).join(" · ")}</Text>:{" "}
                  <span class="q2"><Text>{shown(change.before)}</Text></span> → <b><Text>{shown(change.after)}</Text></b>
                </li>
              ))}
            </ul>
          )}
      </Loaded>
      {match(`/audit/${offset}`) && <p class="s12"><a class="a" href={linkTo(`/audit/${offset}`)}>In the audit trail</a></p>}
    </>
  );
}

function shown(value: unknown): string {
  return value === null || value === undefined ? "nothing" : String(value);
}
