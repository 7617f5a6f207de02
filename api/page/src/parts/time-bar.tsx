// The time bar, on every page: the density of the events that the reader may see, and a handle on the moment that
// is shown. Drag it, or step event by event with the arrow keys. From `GET /api/v1/moments` and `/moments/near`.
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { JSX } from "preact";
import { ApiError, get, writes } from "../client/api.ts";
import { clockOffsetMs } from "../client/live.ts";
import { position, time } from "../pure/format.ts";
import { height, marks, placeOf, timeAt, type Bucket } from "../pure/time-strip.ts";
import { useKeys } from "../state/keys.ts";
import { moment, showMoment } from "../state/moment.ts";

interface Mark {
  position: string;
  time: string;
}
interface Moments {
  buckets: Bucket[];
  first: Mark | null;
  last: Mark | null;
}

const BUCKETS = 200;
const OLD_MS = 30_000;
const moments = signal<Moments | null>(null);
/** The time of the position that is shown, where the address has a position. */
const shownAt = signal<{ moment: string; time: string } | null>(null);
let asked = -Infinity;

function ask(): void {
  asked = performance.now();
  get<Moments>("/api/v1/moments", { buckets: BUCKETS }).then(
    (found) => (moments.value = found),
    (error: unknown) => {
      if (!(error instanceof ApiError)) throw error;
    },
  );
}

async function near(at: string, step: -1 | 0 | 1): Promise<Mark | null> {
  try {
    return await get<Mark>("/api/v1/moments/near", { at, step });
  } catch (error) {
    if (error instanceof ApiError) return null;
    throw error;
  }
}

async function stepBy(step: -1 | 1): Promise<void> {
  const at = moment.value ?? moments.value?.last?.position;
  if (!at) return;
  const found = await near(at, step);
  if (!found) return;
  shownAt.value = { moment: found.position, time: found.time };
  showMoment(step > 0 && found.position === moments.value?.last?.position ? null : found.position);
}

export function TimeBar(): JSX.Element | null {
  const strip = useRef<HTMLDivElement>(null);
  const [pulled, setPulled] = useState<number | null>(null);
  const at = moment.value;
  useEffect(() => {
    if (performance.now() - asked > OLD_MS) ask();
  }, [at, writes.value]);
  useEffect(() => {
    if (at === null || !at.includes(":") || /^\d{4}-/.test(at) || shownAt.peek()?.moment === at) return;
    void near(at, 0).then((found) => { if (found) shownAt.value = { moment: at, time: found.time }; });
  }, [at]);
  useKeys("Time", [
    { key: "t", what: "To the time bar", run: () => strip.current?.focus() },
    ...(at === null ? [] : [{ key: "Escape", what: "Back to now", run: () => showMoment(null) }]),
  ]);

  const found = moments.value;
  const from = found?.first ? Date.parse(found.first.time) : 0;
  const to = Math.max(Date.now() + clockOffsetMs.value, found?.last ? Date.parse(found.last.time) : 0);
  const shown = at === null ? to : shownAt.value?.moment === at ? Date.parse(shownAt.value.time) : Date.parse(at);
  const place = pulled ?? (Number.isNaN(shown) ? 1 : placeOf(shown, from, to));
  const label = pulled !== null ? time(new Date(timeAt(pulled, from, to))) : at === null ? "Now" : Number.isNaN(shown) ? position(at) : time(new Date(shown));

  function placeAt(event: PointerEvent): number {
    const box = strip.current!.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  }
  function pull(event: PointerEvent): void {
    if (!found?.first || event.button !== 0) return;
    const element = strip.current!;
    element.setPointerCapture(event.pointerId);
    setPulled(placeAt(event));
    element.onpointermove = (move) => setPulled(placeAt(move));
    element.onpointerup = (end) => {
      element.onpointermove = element.onpointerup = null;
      setPulled(null);
      const ended = placeAt(end);
      showMoment(ended > 0.995 ? null : new Date(timeAt(ended, from, to)).toISOString());
    };
  }
  function onKeyDown(event: KeyboardEvent): void {
    const acts: Record<string, () => void> = {
      ArrowLeft: () => void stepBy(-1),
      ArrowRight: () => void stepBy(1),
      Home: () => found?.first && showMoment(found.first.position),
      End: () => showMoment(null),
    };
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  const most = Math.max(0, ...(found?.buckets.map((bucket) => bucket.events) ?? []));
  const bars = (later: boolean): string => (found?.buckets ?? []).map((bucket) => {
    const x = placeOf(Date.parse(bucket.from), from, to) * 1000;
    if (bucket.events === 0 || x > place * 1000 !== later) return "";
    const h = Math.round(height(bucket.events, most) * 16);
    return `M${x.toFixed(1)} 20v-${h}h4v${h}z`;
  }).join("");
  return (
    <section class="time" aria-label="The moment that is shown">
      <span class="when">
        {at === null || pulled !== null
          ? <><b>{label}</b>{pulled === null && found?.last && <span class="q"> {time(new Date(to), { seconds: false })} · {position(found.last.position)}</span>}</>
          : <>You see <b>{label}</b>{at.startsWith("registry:") && <span class="q">, {position(at)}</span>}</>}
      </span>
      <div
        ref={strip} class="strip" role="slider" tabIndex={0} aria-label="Moment" aria-valuemin={0} aria-valuemax={100}
        aria-valuenow={Math.round(place * 100)} aria-valuetext={at === null ? "now" : `${label}${at.startsWith("registry:") ? `, ${position(at)}` : ""}`}
        onPointerDown={pull} onKeyDown={onKeyDown}
      >
        <svg viewBox="0 0 1000 36" preserveAspectRatio="none" aria-hidden="true">
          <path class="den" d={bars(false)} /><path class="den after" d={bars(true)} />
        </svg>
        {marks(from, to).filter((mark) => placeOf(mark.at, from, to) < 0.95).map((mark) => <span key={mark.at} class="tick" style={{ left: `${placeOf(mark.at, from, to) * 100}%` }}>{mark.text}</span>)}
        <span class="knob" style={{ left: `${place * 100}%` }} />
      </div>
      {at === null
        ? <span class="keys q"><kbd>t</kbd> <kbd>←</kbd> <kbd>→</kbd> event by event</span>
        : (
          <>
            <span class="group">
              <button type="button" class="btn s" aria-label="Event before" onClick={() => void stepBy(-1)}>←</button>
              <button type="button" class="btn s" aria-label="Next event" onClick={() => void stepBy(1)}>→</button>
            </span>
            <button type="button" class="btn s go" onClick={() => showMoment(null)}>Back to now</button>
          </>
        )}
    </section>
  );
}
