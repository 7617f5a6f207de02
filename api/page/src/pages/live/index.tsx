// Live: the tail of the log as it is written, with pause and filter; each event opens its fields, schema and effect.
// From `GET /api/v1/live?tail=true`, before it the newest requests of `GET /api/v1/audit`.
import type { JSX } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get } from "../../client/api.ts";
import { clockOffsetMs, liveState, useLive } from "../../client/live.ts";
import { Icon } from "../../parts/icon.tsx";
import { Page } from "../../parts/page.tsx";
import { Table, type Column } from "../../parts/table.tsx";
import { Actor, Text, Time } from "../../parts/values.tsx";
import { count, duration, bytes } from "../../pure/format.ts";
import { about, added, fits, lagOfLine, type Line } from "../../pure/tail.ts";
import { useKeys } from "../../state/keys.ts";
import { linkTo, place, setQuery } from "../../state/location.ts";
import { isPast, showMoment } from "../../state/moment.ts";
import { OneEvent } from "./event.tsx";

const FIRST = 50;

export default function Live(): JSX.Element {
  return (
    <Page crumbs={[{ text: "Live" }]} fill>
      {isPast.value
        ? (
          <div class="state">
            <h2>The tail is always of now</h2>
            <p class="q2">What was written at another moment is in the audit trail and on the pages of runs.</p>
            <button class="btn" type="button" onClick={() => showMoment(null)}>Back to now</button>
          </div>
        )
        : <Tail />}
    </Page>
  );
}

function Tail(): JSX.Element {
  const [lines, setLines] = useState<readonly Line[]>([]);
  const [paused, setPaused] = useState(false);
  const [waiting, setWaiting] = useState(0);
  const [lag, setLag] = useState<number | null>(null);
  const [skipped, setSkipped] = useState(0);
  const held = useRef<Line[]>([]);
  const isPaused = useRef(false);
  const frame = useRef(0);

  // Events may come by the thousand: they are shown once a frame.
  const show = useCallback(() => {
    frame.current = 0;
    setWaiting(isPaused.current ? held.current.length : 0);
    if (isPaused.current) return;
    const came = held.current;
    held.current = [];
    setLines((old) => added(old, came));
  }, []);
  const take = useCallback((line: Line) => {
    held.current.push(line);
    if (held.current.length > 10_000) held.current.splice(0, 5_000);
    frame.current ||= requestAnimationFrame(show);
  }, []);
  useLive({ tail: true }, {
    tail: (event) => {
      if (typeof event.skipped === "number") return setSkipped((n) => n + Number(event.skipped));
      const line = event as unknown as Line;
      setLag(lagOfLine(line, Date.now(), clockOffsetMs.value));
      take(line);
    },
  });
  useEffect(() => {
    const mine = new AbortController();
    get<{ events: (Line & { log_offset: number; accepted: boolean | null })[] }>("/api/v1/audit", { limit: FIRST }, mine.signal).then(
      ({ events }) => {
        const before = events.map((event) => ({
          ...event, position: `registry:0:${event.log_offset}`, stream: "registry",
          outcome: event.outcome ?? (event.accepted === null ? "dead_letter" : event.accepted ? "accepted" : "refused"),
        }));
        setLines((now) => [...now, ...before.filter((line) => !now.some((one) => one.position === line.position))]);
      },
      () => {}, // the tail works without it
    );
    return () => mine.abort();
  }, []);
  function pause(on: boolean): void {
    isPaused.current = on;
    setPaused(on);
    show();
  }

  const filter = place.value.query.get("filter") ?? "";
  const shown = useMemo(() => (filter ? lines.filter((line) => fits(line, filter)) : lines), [lines, filter]);
  const opened = place.value.query.get("event");
  useKeys("Live", [
    { key: "p", what: paused ? "Go on" : "Pause", run: () => pause(!isPaused.current) },
    ...(opened ? [{ key: "Escape", what: "Close the event", run: () => setQuery({ event: null }) }] : []),
  ]);
  return (
    <>
      <div class="filter">
        <div class="row live-row">
          <button class="btn" type="button" aria-pressed={paused} onClick={() => pause(!paused)}><Icon name={paused ? "right" : "stop"} />{paused ? "Go on" : "Pause"} <kbd>p</kbd></button>
          <input
            class="field live-filter" type="search" data-filter placeholder="Filter: words, -without" aria-label="Filter" value={filter}
            onInput={(event) => setQuery({ filter: event.currentTarget.value || null }, { replace: true })}
          />
          <span class="live-said" role="status"><Said paused={paused} waiting={waiting} lag={lag} skipped={skipped} /></span>
        </div>
      </div>
      <div class={opened ? "live-cols opened" : "live-cols"}>
        {shown.length === 0
          ? <p class="q live-none">{lines.length === 0 ? "What is written to the log from now on appears here." : <>None of the last {count(lines.length)} events fits. <button class="btn s" type="button" onClick={() => setQuery({ filter: null })}>Drop the filter</button></>}</p>
          : <Table<Line> label="Events" columns={COLUMNS} count={shown.length} at={(index) => shown[index] ?? null} keyOf={(line) => line.position} open={(line) => setQuery({ event: line.position })} rowClass={(line) => (line.position === opened ? "on" : "")} layout={null} />}
        {opened && <OneEvent key={opened} position={opened} line={lines.find((line) => line.position === opened) ?? null} close={() => setQuery({ event: null })} />}
      </div>
    </>
  );
}

function Said({ paused, waiting, lag, skipped }: { paused: boolean; waiting: number; lag: number | null; skipped: number }): JSX.Element {
  const state = liveState.value;
  return (
    <>
      {paused ? <span class="st warn"><Icon name="stop" />paused{waiting > 0 && <>, {count(waiting)} new</>}</span>
        : state === "live" ? <span class="st run"><span class="beat" aria-hidden="true" />live</span>
        : <span class="st"><Icon name="clock" />{state === "reconnecting" ? "the server is away, trying again" : "connecting"}</span>}
      {lag !== null && <span class="q">log to page {duration(lag / 1000)}</span>}
      {skipped > 0 && <span class="q">{count(skipped)} came too fast and were left out</span>}
    </>
  );
}

const OUTCOMES: Record<string, [icon: "check" | "cross" | "warn" | "again", word: string, kind: string]> = {
  accepted: ["check", "accepted", ""],
  applied: ["check", "applied", ""],
  refused: ["cross", "refused", "bad"],
  repeat: ["again", "repeat", ""],
  dead_letter: ["warn", "dead letter", "warn"],
};

const COLUMNS: readonly Column<Line>[] = [
  { id: "at", title: "Appended", width: 138, cell: (line) => <Time at={line.appended_at} /> },
  {
    id: "position", title: "Position", width: 132,
    cell: (line) => <a class="mono a" href={linkTo("/live", { event: line.position, filter: place.value.query.get("filter") })}>{line.position}</a>,
  },
  { id: "type", title: "Event", width: 208, cell: (line) => <Text>{line.type ?? "unknown type"}</Text> },
  {
    id: "outcome", title: "Outcome", width: 112,
    cell: (line) => {
      const [icon, word, kind] = OUTCOMES[line.outcome] ?? ["check", line.outcome, ""];
      return <span class={`st ${kind}`}><Icon name={icon} />{word}</span>;
    },
  },
  { id: "actor", title: "Actor", width: 132, cell: (line) => <Actor name={line.actor} verified={line.actor_verified} /> },
  { id: "about", title: "About", width: 380, cell: (line) => <span class="q2 cut"><Text title={about(line)}>{about(line)}</Text></span> },
  { id: "bytes", title: "Size", width: 84, numeric: true, cell: (line) => (line.bytes === undefined ? <span class="q">–</span> : bytes(line.bytes)) },
];
