// The trail: every request to the registry, what became of it, and one of them open.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../../client/api.ts";
import type { PageProps } from "../../frame/match.ts";
import { useAnswer } from "../../parts/answer.ts";
import { Icon, type IconName } from "../../parts/icon.tsx";
import { CopyAs, Menu } from "../../parts/menu.tsx";
import { copyText } from "../../parts/copy.tsx";
import { Page } from "../../parts/page.tsx";
import { Empty, Failed, Loaded, NothingFound } from "../../parts/states.tsx";
import { Actor, Position, Reason, Time } from "../../parts/values.tsx";
import { Version } from "../../parts/version.tsx";
import { shellText, sqlText } from "../../pure/copies.ts";
import { asked, body, claimedAt, eventSentence, outcome, race, subject, type Outcome, type TrailEvent } from "../../pure/events.ts";
import { name, type Change } from "../../pure/diff.ts";
import { count, duration, position } from "../../pure/format.ts";
import { lines } from "../../pure/json.ts";
import { useKeys } from "../../state/keys.ts";
import { go, linkTo, place, setQuery } from "../../state/location.ts";
import { useLooked } from "../../state/looked.ts";
import { moment } from "../../state/moment.ts";

const FACETS = ["outcome", "actor", "model", "type"] as const;
const FILTERS = [...FACETS, "version", "alias", "experiment", "since", "until"] as const;
const WINDOW = 100;
const OUTCOMES: Record<Outcome, [IconName, kind: string]> = {
  accepted: ["check", ""], refused: ["cross", "bad"], repeat: ["again", ""], "dead letter": ["letter", "warn"],
};

type Facets = Partial<Record<(typeof FACETS)[number], { value: string | null; events: number }[]>>;
interface Trail {
  events: TrailEvent[];
  next_page_token: string | null;
  facets?: Facets;
}
interface Opened extends TrailEvent {
  previous_hash: string | null;
  changes: Change[];
}

function filters(): Record<string, string> {
  const query = place.value.query;
  return Object.fromEntries(FILTERS.flatMap((one) => (query.get(one) ? [[one, query.get(one)!]] : [])));
}

export default function Audit({ params }: PageProps): JSX.Element {
  const at = moment.value;
  const asking = filters();
  const key = JSON.stringify([asking, at]);
  const first = useAnswer(`audit ${key}`, (signal) => get<Trail>("/api/v1/audit", { ...asking, as_of: at, facets: FACETS.join(","), limit: WINDOW }, signal));
  const [more, setMore] = useState<{ key: string; events: TrailEvent[]; next: string | null }>({ key, events: [], next: null });
  const mine = more.key === key ? more : { key, events: [], next: null };
  const events = [...(first.data?.events ?? []), ...mine.events];
  const next = mine.events.length ? mine.next : first.data?.next_page_token ?? null;
  const open = params.offset === undefined ? null : Number(params.offset);
  const newest = Object.keys(asking).length === 0 ? events[0]?.log_offset ?? null : null;
  const looked = useLooked("audit", newest);

  async function load(): Promise<void> {
    const found = await get<Trail>("/api/v1/audit", { ...asking, as_of: at, limit: WINDOW, page_token: next });
    setMore({ key, events: [...mine.events, ...found.events], next: found.next_page_token });
  }
  const show = (offset: number | null): void => go(linkTo(offset === null ? "/audit" : `/audit/${offset}`, asking), { replace: open !== null && offset !== null });
  const step = (by: number): void => {
    const i = events.findIndex((event) => event.log_offset === open);
    const to = events[i === -1 ? 0 : Math.max(0, Math.min(i + by, events.length - 1))];
    if (to) show(to.log_offset);
  };
  useKeys("Trail", [
    { key: "j", what: "Next event (older)", run: () => step(1) },
    { key: "k", what: "Event before (newer)", run: () => step(-1) },
    ...(open === null ? [] : [{ key: "Escape", what: "Close the event", run: () => show(null) }]),
  ]);
  const query = new URLSearchParams({ ...asking, ...(at === null ? {} : { as_of: at }) }).toString();
  const total = first.data?.facets?.outcome?.reduce((sum, one) => sum + one.events, 0);
  return (
    <Page fill crumbs={[{ text: "Audit" }]} acts={<>
      <a class="btn desk" href={linkTo("/diff", { from: at ?? undefined })}>{at === null ? "Diff of two moments…" : "What differs from now"}</a>
      <a class="btn desk" href={linkTo("/incident")}>Incident…</a>
      <span class="desk"><CopyAs texts={{
        curl: () => `curl -s ${shellText(`${location.origin}/api/v1/audit?${query}`)}`,
        SQL: () => `SELECT log_offset, appended_at, actor, type, model, version, accepted, reason FROM audit${where(asking)} ORDER BY log_offset DESC LIMIT 100`,
        Python: () => `import json, urllib.request\n\nevents = json.load(urllib.request.urlopen(${JSON.stringify(`${location.origin}/api/v1/audit?${query}`)}))["events"]`,
      }} /></span>
      <button class="btn desk" type="button" onClick={() => print()}>Print</button>
    </>}>
      <Filter asking={asking} facets={first.data?.facets} total={total} />
      <div class={open === null ? "trail" : "trail opened"}>
        <aside class="facets" aria-label="Facets"><h2 class="sr">Facets</h2>{FACETS.map((one) => <Facet key={one} name={one} values={first.data?.facets?.[one]} chosen={asking[one]} />)}
          <p class="s12 q marks"><span class="by">verified</span> <span class="by claim">claimed</span></p>
        </aside>
        <div class="list-part">
          <Loaded answer={first} rows={14}>
            {() => events.length === 0
              ? Object.keys(asking).length > 0
                ? <NothingFound what="No event is left" drop={() => setQuery(Object.fromEntries(FILTERS.map((one) => [one, null])))}>The filters {Object.entries(asking).map(([k, v]) => `${k} = ${v}`).join(", ")} leave none.</NothingFound>
                : <Empty title="The trail is empty">Each request to the registry is an event here, also those that were refused.</Empty>
              : <List events={events} open={open} looked={looked?.offset ?? null} show={show} />}
          </Loaded>
          {next && <More load={load} />}
        </div>
        {open !== null && <Event offset={open} events={events} close={() => show(null)} />}
      </div>
      <footer class="foot">
        <span>{total === undefined ? "" : `${count(total)} events`}{at !== null && ` up to ${position(at)}`}</span>
        <span class="desk"><kbd>j</kbd> <kbd>k</kbd> move</span>
        <span class="gap" />
        <span class="print-foot">{location.origin}{place.value.path} · {at === null ? "now" : position(at)} · newest offset {events[0]?.log_offset ?? "–"}, hash {events[0]?.hash ?? "–"} · printed {new Date().toISOString()}</span>
      </footer>
    </Page>
  );
}

function where(asking: Record<string, string>): string {
  const columns: Record<string, string> = { actor: "actor", model: "model", type: "type", alias: "alias", experiment: "experiment_id" };
  const parts = Object.entries(asking).flatMap(([one, value]) => {
    if (columns[one]) return [`${columns[one]} = ${sqlText(value)}`];
    if (one === "version") return [`version = ${Number(value)}`];
    if (one === "outcome" && (value === "accepted" || value === "refused")) return [`accepted = ${value === "accepted"}`];
    return [];
  });
  return parts.length ? ` WHERE ${parts.join(" AND ")}` : "";
}

/** Filters in words: `actor:ada model:fraud`; what is chosen on the left stands here, too. */
function Filter({ asking, facets, total }: { asking: Record<string, string>; facets: Facets | undefined; total: number | undefined }): JSX.Element {
  const text = Object.entries(asking).map(([one, value]) => `${one}:${/\s/.test(value) ? `"${value}"` : value}`).join(" ");
  const [typed, setTyped] = useState(text);
  const [wrong, setWrong] = useState<string | null>(null);
  useEffect(() => setTyped(text), [text]);
  function apply(): void {
    const found: Record<string, string> = {};
    for (const [, field, quoted, word] of typed.matchAll(/(\w+):(?:"([^"]*)"|(\S+))/g)) found[field!] = quoted ?? word!;
    const unknown = Object.keys(found).find((one) => !(FILTERS as readonly string[]).includes(one));
    const rest = typed.replace(/(\w+):(?:"[^"]*"|\S+)/g, "").trim();
    if (unknown || rest) return setWrong(`Write ${FILTERS.slice(0, 6).map((one) => `${one}:…`).join(" ")}, since:… or until:…; “${unknown ?? rest}” is none of these.`);
    setWrong(null);
    setQuery(Object.fromEntries(FILTERS.map((one) => [one, found[one] ?? null])));
  }
  const refused = facets?.outcome?.find((one) => one.value === "refused")?.events;
  return (
    <div class="filter">
      <form class="row" role="search" onSubmit={(event) => { event.preventDefault(); apply(); }}>
        <label class="query"><Icon name="search" /><span class="sr">Filter the trail</span>
          <input data-filter class="bare-field" value={typed} placeholder="actor:ada model:fraud-scoring type:SetRegisteredModelAlias" onInput={(event) => setTyped(event.currentTarget.value)} onBlur={() => typed !== text && apply()} />
          <kbd class="desk">/</kbd></label>
        <span class="group" role="group" aria-label="Outcome">
          <button class="btn" type="button" aria-pressed={!asking.outcome} onClick={() => setQuery({ outcome: null })}>All{!asking.outcome && total !== undefined && ` ${count(total)}`}</button>
          <button class="btn" type="button" aria-pressed={asking.outcome === "refused"} onClick={() => setQuery({ outcome: "refused" })}>Refused{refused !== undefined && ` ${count(refused)}`}</button>
        </span>
      </form>
      {wrong && <p class="s12 st bad wrong" role="alert">{wrong}</p>}
    </div>
  );
}

function Facet({ name: facet, values, chosen }: { name: string; values: { value: string | null; events: number }[] | undefined; chosen: string | undefined }): JSX.Element | null {
  const shown = (values ?? []).filter((one) => one.value !== null);
  if (shown.length === 0 && !chosen) return null;
  if (chosen && !shown.some((one) => one.value === chosen)) shown.unshift({ value: chosen, events: 0 });
  const label = facet[0]!.toUpperCase() + facet.slice(1);
  return (
    <>
      <h3 id={`facet-${facet}`}>{label}</h3>
      <ul aria-labelledby={`facet-${facet}`}>
        {shown.map(({ value, events }) => (
          <li key={value}>
            <button type="button" role="checkbox" aria-checked={value === chosen} onClick={() => setQuery({ [facet]: value === chosen ? null : value })}>
              <span class={value === chosen ? "box on" : "box"} aria-hidden="true" /><bdi class="cut">{value!.replace("_", " ")}</bdi><span class="n">{count(events)}</span>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

function OutcomeMark({ event }: { event: TrailEvent }): JSX.Element {
  const found = outcome(event);
  const [icon, kind] = OUTCOMES[found];
  return <span class={`st ${kind}`}><Icon name={icon} />{found}</span>;
}

function List({ events, open, looked, show }: { events: readonly TrailEvent[]; open: number | null; looked: number | null; show: (offset: number) => void }): JSX.Element {
  const line = looked === null ? -1 : events.findIndex((event) => event.log_offset <= looked);
  return (
    <table class="tbl open tall">
      <thead><tr><th class="num desk">Offset</th><th class="desk">Appended</th><th>Outcome</th><th class="desk">Actor</th><th>Request and reason</th></tr></thead>
      <tbody>
        {events.flatMap((event, i) => [
          ...(i === line && i > 0 ? [<tr key="looked" class="looked-row"><td colSpan={5}>above: since you last looked</td></tr>] : []),
          <tr key={event.log_offset} class={event.log_offset === open ? "on cur" : ""} onClick={() => show(event.log_offset)}>
            <td class="num q desk">{count(event.log_offset)}</td>
            <td class="desk"><Time at={event.appended_at} /></td>
            <td><OutcomeMark event={event} />{event.code && <span class="under desk">{event.code}</span>}</td>
            <td class="desk"><Actor name={event.actor} verified={event.actor_verified} /></td>
            <td class="cut what">
              <a href={linkTo(`/audit/${event.log_offset}`, filters())} aria-current={event.log_offset === open ? "true" : undefined} onClick={(click) => { if (!click.ctrlKey && !click.metaKey) { click.preventDefault(); click.stopPropagation(); show(event.log_offset); } }}>
                <bdi class="b5">{subject(event)}</bdi> <bdi>{asked(event)}</bdi></a>
              <span class="under cut"><span class="mono">{event.type ?? "not decoded"}</span> · <Reason text={event.reason} /></span>
              <span class="under phone-only cut">{count(event.log_offset)} · <Time at={event.appended_at} /> · <Actor name={event.actor} verified={event.actor_verified} /></span>
            </td>
          </tr>,
        ])}
      </tbody>
    </table>
  );
}

function More({ load }: { load: () => Promise<void> }): JSX.Element {
  const [waiting, setWaiting] = useState(false);
  return <p class="more-row"><button class="btn" type="button" disabled={waiting} onClick={() => { setWaiting(true); void load().finally(() => setWaiting(false)); }}>Older events</button></p>;
}

function Event({ offset, events, close }: { offset: number; events: readonly TrailEvent[]; close: () => void }): JSX.Element {
  const answer = useAnswer(`event ${offset}`, (signal) => get<Opened>(`/api/v1/audit/${offset}`, {}, signal), { fresh: true });
  const panel = useRef<HTMLElement>(null);
  useEffect(() => void panel.current?.scrollTo(0, 0), [offset]);
  return (
    <aside class="det" aria-label={`Event at offset ${offset}`} ref={panel} tabIndex={0}>
      <div class="det-head">
        <h2>Offset {count(offset)}</h2><span class="gap" />
        <Menu icon="copy" title="Copy" quiet small items={[
          { text: "Link", run: () => void copyText(location.href) },
          { text: "Event as JSON", run: () => void copyText(JSON.stringify(answer.data, null, 2)) },
          { text: "curl", run: () => void copyText(`curl -s ${shellText(`${location.origin}/api/v1/audit/${offset}`)}`) },
        ]} />
        <button class="btn bare s sq" type="button" aria-label="Close" onClick={close}><Icon name="cross" /></button>
      </div>
      {answer.error ? <Failed error={answer.error} again={answer.again} /> : answer.data && <Detail event={answer.data} events={events} />}
    </aside>
  );
}

function Detail({ event, events }: { event: Opened; events: readonly TrailEvent[] }): JSX.Element {
  const found = outcome(event);
  const [icon, kind] = OUTCOMES[found];
  const request = body(event);
  const claimed = claimedAt(event);
  const lost = race(event, events);
  return (
    <>
      <p class="b6"><bdi>{eventSentence(event)}</bdi></p>
      <p><span class={`st ${kind}`}><Icon name={icon} />{found[0]!.toUpperCase() + found.slice(1)}{event.code && `: ${event.code}`}</span></p>
      {event.message && <p class={found === "accepted" || found === "repeat" ? "note" : "note bad"}><bdi>{event.message}</bdi></p>}
      {lost && (
        <p class="s12 q2 lens"><Actor name={lost.won.actor} verified={lost.won.actor_verified} /> was first by {duration(lost.ms / 1000)} and {count(lost.offsets)} {lost.offsets === 1 ? "offset" : "offsets"}, at <Position offset={lost.won.log_offset} />: <Reason text={lost.won.reason} /></p>
      )}
      <dl class="kv">
        <Row name="Why"><Reason text={event.reason} /></Row>
        <Row name="Actor"><Actor name={event.actor} verified={event.actor_verified} /> <span class="q">{event.actor_verified ? "verified" : "claimed"}</span></Row>
        {event.model && <Row name="Model"><a class="a" href={linkTo(`/models/${encodeURIComponent(event.model)}`)}><bdi>{event.model}</bdi></a> {event.version !== null && <Version model={event.model} version={event.version} word />}</Row>}
        {event.client && <Row name="Client"><code>{event.client}</code></Row>}
        <Row name="Appended"><Time at={event.appended_at} relative /></Row>
        {claimed && <Row name="Claimed"><Time at={claimed} /> <span class="q">the client's clock</span></Row>}
        {event.event_id && <Row name="Event"><code>{event.event_id}</code></Row>}
      </dl>
      {event.changes.length > 0 && (
        <section aria-label="Effect">
          <div class="head"><h2>Effect</h2></div>
          <ul class="will s12">{event.changes.map((change) => (
            <li key={name(change)}><bdi>{name(change)}</bdi>: <bdi class="q">{change.before ?? "none"}</bdi> → <bdi class="b5">{change.after ?? "none"}</bdi></li>
          ))}</ul>
        </section>
      )}
      {request && (
        <section aria-label="Request">
          <div class="head"><h2>Request</h2><span class="gap" /><span class="q">as it came</span></div>
          <pre class="code" tabIndex={0}>{lines(request).map((line, i) => <span key={i}>{line.map((part, j) => <span key={j} class={part.kind}>{part.text}</span>)}{"\n"}</span>)}</pre>
        </section>
      )}
      <section aria-label="Chain">
        <div class="head"><h2>Chain</h2><span class="gap" /><a class="a s12" href={linkTo("/audit", { at: `registry:0:${event.log_offset}` })}>Trail at this moment</a></div>
        <ul class="chain">
          {event.previous_hash && <li><span>{event.log_offset - 1}</span><span>{event.previous_hash}</span></li>}
          <li class="it"><span>{event.log_offset}</span><span>{event.hash}</span></li>
        </ul>
      </section>
      <p class="print-foot">registry:0:{event.log_offset} · event {event.event_id} · hash {event.hash} · printed {new Date().toISOString()}</p>
    </>
  );
}

function Row({ name: title, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return <><dt>{title}</dt><dd>{children}</dd></>;
}
