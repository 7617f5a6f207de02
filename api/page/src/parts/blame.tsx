// Blame: who set a value of the registry, when, why, since which offset, and what it was before.
import type { ComponentChildren, JSX } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { get } from "../client/api.ts";
import { blame, valueSet, type Target, type TrailEvent } from "../pure/events.ts";
import { count, duration } from "../pure/format.ts";
import { moment } from "../state/moment.ts";
import { useAnswer } from "./answer.ts";
import { Actor, Reason, Time } from "./values.tsx";

/** How far back the trail of a model is read for it. */
const EVENTS = 1_000;

/** A value that says, when it is pointed at or focused, who set it. */
export function Blame({ model, target, children }: { model: string; target: Target; children: ComponentChildren }): JSX.Element {
  const [place, setPlace] = useState<{ left: string; top: string } | null>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();
  const show = (): void => {
    const box = button.current?.getBoundingClientRect();
    if (!box) return;
    const top = box.bottom + 6 > innerHeight - 140 ? Math.max(8, box.top - 120) : box.bottom + 6;
    setPlace({ left: `${Math.max(12, Math.min(box.left, innerWidth - 388))}px`, top: `${top}px` });
  };
  return (
    <span class="blamed" onMouseEnter={show} onMouseLeave={() => setPlace(null)}>
      <button
        ref={button} class="blame" type="button" aria-describedby={place ? id : undefined}
        onFocus={show} onBlur={() => setPlace(null)} onClick={show}
        onKeyDown={(event) => { if (event.key === "Escape" && place) { event.stopPropagation(); setPlace(null); } }}
      >
        {children}
      </button>
      {place && <span class="hovercard fixed" role="tooltip" id={id} style={place}><Found model={model} target={target} /></span>}
    </span>
  );
}

function Found({ model, target }: { model: string; target: Target }): JSX.Element {
  const as_of = moment.value;
  const answer = useAnswer(`blame ${model} ${as_of ?? ""}`, (signal) =>
    get<{ events: TrailEvent[] }>("/api/v1/audit", { model, accepted: true, as_of, limit: EVENTS }, signal));
  if (answer.error) return <span class="q">Who set it cannot be said: {answer.error.message}.</span>;
  if (!answer.data) return <span class="q">Reading the trail…</span>;
  const [set, before] = blame(answer.data.events, target);
  if (!set) return <span class="q">It was not set by any of the model's newest {count(EVENTS)} events.</span>;
  const former = before && valueSet(before, target);
  return (
    <span class="lines">
      <span>Set by <Actor name={set.actor} verified={set.actor_verified} />, <Time at={set.appended_at} relative /></span>
      <span><Reason text={set.reason} /></span>
      <span class="q">
        since offset {count(set.log_offset)}
        {before && <>; before it {former === null ? "nothing" : <bdi class="b5">{former}</bdi>} for {duration((Date.parse(set.appended_at) - Date.parse(before.appended_at)) / 1000)}</>}
      </span>
    </span>
  );
}
