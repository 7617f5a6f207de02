// The timeline of a model: who held which alias and stage, from when to when, as lanes of bars.
import { linear } from "./calendar.ts";

export interface Bar {
  version: number;
  valid_from: string;
  valid_to: string | null;
  from_offset: number;
  to_offset: number | null;
  set_by: string | null;
  verified: boolean | null;
  reason: string | null;
  event_id?: string;
  override?: boolean;
}

export interface Lane {
  kind: "alias" | "stage";
  name: string;
  bars: Bar[];
}

export interface Refusal {
  log_offset: number;
  appended_at: string;
  type: string;
  actor: string | null;
  verified: boolean | null;
  alias: string | null;
  stage: string | null;
  version: number | null;
  code: string | null;
  message: string | null;
  reason: string | null;
}

export interface TimelineVersion {
  version: number;
  created_at: string;
  run_id: string | null;
  metric: number | "NaN" | "Infinity" | "-Infinity" | null;
  stage: string | null;
  aliases: string[];
}

export interface Timeline {
  model: string;
  lanes: Lane[];
  refused: Refusal[];
  versions: TimelineVersion[];
  metric: string | null;
  metrics: string[];
}

/** A window of time in milliseconds since 1970. */
export interface Span {
  from: number;
  to: number;
}

const ms = (time: string): number => Date.parse(time);

/** All moments at which something changed or was refused, in order. */
export function changes(timeline: Timeline): number[] {
  const found = new Set<number>();
  for (const { bars } of timeline.lanes) {
    for (const bar of bars) {
      found.add(ms(bar.valid_from));
      if (bar.valid_to !== null) found.add(ms(bar.valid_to));
    }
  }
  for (const one of timeline.refused) found.add(ms(one.appended_at));
  return [...found].sort((a, b) => a - b);
}

/**
 * The window that shows everything up to `now`.
 *
 * Where nothing has changed for much longer than all changes took, it ends soon after the last one:
 * a burst of changes is then no smear at the left edge.
 */
export function wholeSpan(times: readonly number[], now: number): Span {
  const first = times[0] ?? now - 3_600_000;
  const last = times[times.length - 1] ?? now;
  const took = Math.max(last - first, 1);
  const margin = Math.max(took * 0.04, 1);
  if (times.length > 1 && now - last > took * 4) return { from: first - margin, to: last + took * 0.35 };
  return { from: first - margin, to: Math.max(now, last + margin) };
}

export interface DrawnBar {
  bar: Bar;
  lane: Lane;
  x: number;
  width: number;
  y: number;
  height: number;
  /** Whether its beginning is in the window. */
  begins: boolean;
  /** Whether its label fits into it. */
  labelled: boolean;
}

export interface DrawnLane {
  lane: Lane;
  /** Top of the lane, and its height. */
  y: number;
  height: number;
  bars: DrawnBar[];
}

export interface Drawn {
  groups: { title: string; y: number; lanes: DrawnLane[] }[];
  crosses: { refusal: Refusal; x: number; y: number }[];
  height: number;
}

export const BAR = 20;
const LANE = 36;
const THIN = 6;
const TITLE = 24;
/** A bar is never thinner than this, so that three minutes in a year are still seen. */
const LEAST = 3;

/** Lay out lanes, bars and crosses in a window, between two x. */
export function layOut(timeline: Timeline, span: Span, left: number, right: number, top = 0): Drawn {
  const x = linear(span.from, span.to, left, right);
  const groups: Drawn["groups"] = [];
  const crosses: Drawn["crosses"] = [];
  let y = top;
  for (const [kind, title] of [["alias", "Aliases"], ["stage", "Stages"]] as const) {
    const lanes = inOrder(timeline.lanes).filter((lane) => lane.kind === kind);
    if (lanes.length === 0) continue;
    const group = { title, y: y + 16, lanes: [] as DrawnLane[] };
    y += TITLE;
    for (const lane of lanes) {
      const drawn = drawLane(lane, span, x, y);
      for (const refusal of timeline.refused) {
        const at = ms(refusal.appended_at);
        const of = kind === "alias" ? refusal.alias : refusal.stage;
        if (of === lane.name && at >= span.from && at <= span.to) crosses.push({ refusal, x: x(at), y: y + LANE / 2 });
      }
      group.lanes.push(drawn);
      y += drawn.height;
    }
    groups.push(group);
    y += 8;
  }
  return { groups, crosses, height: y };
}

function drawLane(lane: Lane, span: Span, x: (at: number) => number, y: number): DrawnLane {
  const shown = lane.bars.filter((bar) => ms(bar.valid_from) <= span.to && (bar.valid_to === null || ms(bar.valid_to) >= span.from));
  const rows = stack(shown);
  const count = Math.max(1, ...rows.map((row) => row + 1));
  const thin = count > 1;
  const height = thin ? Math.max(LANE, 16 + count * (THIN + 6)) : LANE;
  const bars = shown.map((bar, i): DrawnBar => {
    const begins = ms(bar.valid_from) >= span.from;
    const begin = x(Math.max(ms(bar.valid_from), span.from));
    const end = x(bar.valid_to === null ? span.to : Math.min(ms(bar.valid_to), span.to));
    const width = Math.max(end - begin - (bar.valid_to === null ? 0 : 1), LEAST);
    const size = thin ? THIN : BAR;
    const top = thin ? y + 8 + rows[i]! * (THIN + 6) : y + (LANE - BAR) / 2;
    return { bar, lane, x: begin, width, y: top, height: size, begins, labelled: !thin && width >= 14 + 7 * String(bar.version).length };
  });
  return { lane, y, height, bars };
}

/** The row of each bar, so that bars of one lane that overlap in time stand in rows of their own. */
export function stack(bars: readonly Bar[]): number[] {
  const ends: number[] = [];
  const order = bars.map((_, i) => i).sort((a, b) => bars[a]!.from_offset - bars[b]!.from_offset);
  const rows = new Array<number>(bars.length).fill(0);
  for (const i of order) {
    const bar = bars[i]!;
    const free = ends.findIndex((end) => end <= bar.from_offset);
    const row = free === -1 ? ends.length : free;
    ends[row] = bar.to_offset ?? Infinity;
    rows[i] = row;
  }
  return rows;
}

export interface Step {
  version: number;
  value: number;
  from: number;
  to: number;
}

/** The metric of each holder of a lane, as steps in time. */
export function steps(lane: Lane, versions: readonly TimelineVersion[], span: Span): Step[] {
  const values = new Map(versions.map((one) => [one.version, Number(one.metric ?? NaN)]));
  const found: Step[] = [];
  for (const bar of [...lane.bars].sort((a, b) => a.from_offset - b.from_offset)) {
    const from = Math.max(ms(bar.valid_from), span.from);
    const to = Math.min(bar.valid_to === null ? Infinity : ms(bar.valid_to), span.to);
    const value = values.get(bar.version);
    if (to >= from && value !== undefined && Number.isFinite(value)) found.push({ version: bar.version, value, from, to });
  }
  return found;
}

/** Lanes in the order of what serves: `champion` before other aliases, these by name; stages as they come. */
export function inOrder<T extends Pick<Lane, "kind" | "name">>(lanes: readonly T[]): T[] {
  const rank = (lane: T): number => (lane.kind === "stage" ? 2 : /^(champion|production|prod)$/i.test(lane.name) ? 0 : 1);
  return [...lanes].sort((a, b) => rank(a) - rank(b));
}

/** The lane whose metric is drawn: the first alias, else the first stage. */
export function mainLane(lanes: readonly Lane[]): Lane | null {
  return inOrder(lanes)[0] ?? null;
}

export interface Former {
  /** The last time that the version held the lane. */
  bar: Bar;
  /** It was rolled back from: a version of before took its place again. */
  undone: boolean;
}

/**
 * Versions that held a lane before the one that holds it now, each once: first those it can go back
 * to, the latest first, then those that were rolled back from. After 1, 2, 4, 2 it can go back to 1.
 */
export function formerHolders(lane: Lane): Former[] {
  const latest = new Map<number, Bar>();
  let trail: number[] = [];
  for (const bar of [...lane.bars].sort((a, b) => a.from_offset - b.from_offset)) {
    latest.set(bar.version, bar);
    const place = trail.indexOf(bar.version);
    trail = place === -1 ? [...trail, bar.version] : trail.slice(0, place + 1);
  }
  const now = holder(lane)?.version;
  const back = trail.filter((version) => version !== now).reverse();
  const undone = [...latest.values()].filter((bar) => bar.version !== now && !trail.includes(bar.version)).sort((a, b) => b.from_offset - a.from_offset);
  return [...back.map((version) => ({ bar: latest.get(version)!, undone: false })), ...undone.map((bar) => ({ bar, undone: true }))];
}

/** Who holds a lane now. */
export function holder(lane: Lane | undefined): Bar | null {
  return lane?.bars.find((bar) => bar.to_offset === null) ?? null;
}

/** One sentence that says what a lane's drawing shows, for readers who do not see it. */
export function laneSentence(lane: Lane, time: (at: string) => string): string {
  const name = lane.kind === "alias" ? `@${lane.name}` : lane.name;
  const parts = [...lane.bars]
    .sort((a, b) => a.from_offset - b.from_offset)
    .map((bar) => `version ${bar.version} from ${time(bar.valid_from)}${bar.valid_to === null ? "" : ` to ${time(bar.valid_to)}`}`);
  return parts.length ? `${name} was ${parts.join(", then ")}.` : `${name} was never set.`;
}

/** Presets of the window that are shorter than what there is, by name, in milliseconds. */
export function presets(whole: Span): [name: string, size: number][] {
  const all: [string, number][] = [["1 h", 3.6e6], ["1 d", 8.64e7], ["7 d", 6.048e8], ["30 d", 2.592e9], ["90 d", 7.776e9], ["1 y", 3.156e10]];
  const fit = all.filter(([, size]) => size < (whole.to - whole.from) * 0.8);
  return fit.slice(-4);
}

/** A text of at most `most` characters; what is cut ends in an ellipsis. */
export function shorten(text: string, most: number): string {
  const characters = [...text];
  return characters.length <= most ? text : `${characters.slice(0, Math.max(most - 1, 1)).join("")}…`;
}
