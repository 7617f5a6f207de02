// How single values are shown everywhere: numbers, times, positions, actors, reasons, the status of a run.
import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { linkTo } from "../state/location.ts";
import * as format from "../pure/format.ts";
import { Icon } from "./icon.tsx";

/** A number; the whole of it on hover. */
export function Num({ value, decimals }: { value: format.Value | null | undefined; decimals?: number | null }): JSX.Element {
  if (value === null || value === undefined) return <span class="q">–</span>;
  const number = format.asNumber(value);
  return <span title={String(value)}>{decimals === undefined ? format.number(number) : format.inColumn(number, decimals)}</span>;
}

const inUtc = signal(false);
// Made once: to make one takes longer than to draw a row.
const zones = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });
/** The zone's name, as in "CET". */
function zone(at: Date): string {
  if (inUtc.value) return "UTC";
  return zones.formatToParts(at).find((part) => part.type === "timeZoneName")?.value ?? "";
}

/** A time of the log, absolute; how long ago beside it if asked. A click switches between local and UTC. */
export function Time({ at, relative = false, seconds = true }: {
  at: string | null | undefined;
  relative?: boolean;
  seconds?: boolean;
}): JSX.Element {
  if (!at) return <span class="q">–</span>;
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return <span>{at}</span>;
  return (
    <>
      <time dateTime={at} title={`${at} · ${zone(date)}`} class="when" onDblClick={() => (inUtc.value = !inUtc.value)}>
        {format.time(date, { utc: inUtc.value, seconds })}
      </time>
      {relative && <span class="q"> {format.ago(date, new Date())}</span>}
    </>
  );
}

/** A duration in seconds. */
export function Duration({ seconds }: { seconds: number | null | undefined }): JSX.Element {
  if (seconds === null || seconds === undefined) return <span class="q">–</span>;
  return <span title={`${seconds} s`}>{format.duration(seconds)}</span>;
}

/** A position of the registry, as a link to its event in the trail. */
export function Position({ offset }: { offset: number }): JSX.Element {
  return <a class="mono a" href={linkTo(`/audit/${offset}`)} title={`registry:0:${offset}`}>{format.count(offset)}</a>;
}

/** Who: a filled mark is a verified actor, a hollow one a claimed name. */
export function Actor({ name, verified }: { name: string | null | undefined; verified?: boolean | null }): JSX.Element {
  if (!name) return <span class="q">–</span>;
  const title = verified ? "verified: a password or token proved the name" : "claimed: the client gave this name itself";
  return <span class={verified ? "by" : "by claim"} title={title}><bdi class="cut">{name}</bdi></span>;
}

/** Why somebody did something, in their words. */
export function Reason({ text }: { text: string | null | undefined }): JSX.Element {
  return text ? <q class="reason"><bdi>{text}</bdi></q> : <span class="q">no reason given</span>;
}

const RUN_STATES: Record<string, [icon: Parameters<typeof Icon>[0]["name"] | null, word: string, kind: string]> = {
  RUNNING: [null, "running", "run"],
  SCHEDULED: ["clock", "scheduled", ""],
  FINISHED: ["check", "finished", ""],
  FAILED: ["cross", "failed", "bad"],
  KILLED: ["stop", "killed", "warn"],
};

/** The status of a run: icon, word and colour. What is normal stays grey. */
export function Status({ status }: { status: string | null | undefined }): JSX.Element {
  const [icon, word, kind] = RUN_STATES[status ?? ""] ?? [null, (status ?? "unknown").toLowerCase(), ""];
  return (
    <span class={`st ${kind}`}>
      {status === "RUNNING" ? <span class="beat" aria-hidden="true" /> : icon && <Icon name={icon} />}
      {word}
    </span>
  );
}

/** Text of somebody else, in a direction of its own so that it cannot turn what is around it. */
export function Text({ children, title }: { children: ComponentChildren; title?: string }): JSX.Element {
  return <bdi class="cut" title={title}>{children}</bdi>;
}

/** The colour class of a run or a version, `c1` to `c8`: it follows from the id, whatever is filtered. */
export function colourOf(id: string): string {
  let hash = 2_166_136_261;
  for (let i = 0; i < id.length; i += 1) hash = Math.imul(hash ^ id.charCodeAt(i), 16_777_619);
  return `c${((hash >>> 0) % 8) + 1}`;
}
