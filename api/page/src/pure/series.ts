// Series of metrics in buckets, as `POST /api/v1/charts` answers, made ready to be drawn.
import { number } from "./format.ts";

/** What the answer says of a series. */
export interface SeriesAbout {
  run_id: string;
  key: string;
  points: number;
  min: number | string | null;
  max: number | string | null;
  /** Where events are missing: from the point before to the point after; null is open. */
  gaps: [number | null, number | null][];
  ended_at_step: number | null;
  status: string;
  model_id?: string | null;
  dataset_name?: string | null;
}

export interface ChartAbout {
  series: SeriesAbout[];
  bucket_width: number;
  /** True if each bucket holds one point. */
  exact: boolean;
}

/** The columns of the answer, a row a bucket. */
export interface Buckets {
  series: ArrayLike<number>;
  bucket: ArrayLike<number>;
  lo: ArrayLike<number | null>;
  hi: ArrayLike<number | null>;
  last: ArrayLike<number | null>;
  sum: ArrayLike<number | null>;
  n: ArrayLike<number>;
  nan: ArrayLike<number>;
  pos_inf: ArrayLike<number>;
  neg_inf: ArrayLike<number>;
}

/** Values over a shared x: undefined has no point there, null breaks the line. */
export type Values = (number | null | undefined)[];

export interface Line {
  about: SeriesAbout;
  lo: Values;
  hi: Values;
  /** What the line goes through: the point, or the mean of the bucket. */
  mid: Values;
  /** Points that are no numbers, which no line can show. */
  notNumbers: number;
}

export interface ChartData {
  key: string;
  /** The middle of each bucket, or the points' own x. */
  x: number[];
  lines: Line[];
  bucketWidth: number;
  exact: boolean;
}

/** The charts of an answer, by key. */
export function charts(about: ChartAbout, buckets: Buckets): Map<string, ChartData> {
  const rowsOf = new Map<number, number[]>();
  for (let row = 0; row < buckets.series.length; row += 1) {
    const series = buckets.series[row]!;
    const rows = rowsOf.get(series);
    if (rows) rows.push(row);
    else rowsOf.set(series, [row]);
  }
  const byKey = new Map<string, number[]>();
  about.series.forEach((one, i) => {
    const found = byKey.get(one.key);
    if (found) found.push(i);
    else byKey.set(one.key, [i]);
  });
  const made = new Map<string, ChartData>();
  for (const [key, members] of byKey) {
    const points = members.flatMap((i) => (rowsOf.get(i) ?? []).map((row) => buckets.bucket[row]!));
    // Each gap has a place of its own, where its line breaks.
    const gaps = members.flatMap((i) => about.series[i]!.gaps.flatMap(([from, to]) => (from !== null && to !== null && to > from ? [(from + to) / 2] : [])));
    const starts = [...new Set([...points, ...gaps])].sort((a, b) => a - b);
    const place = new Map(starts.map((start, i) => [start, i]));
    const lines = members.map((i) => line(about.series[i]!, rowsOf.get(i) ?? [], buckets, starts, place));
    const half = about.exact ? 0 : about.bucket_width / 2;
    made.set(key, { key, x: starts.map((start) => start + half), lines, bucketWidth: about.bucket_width, exact: about.exact });
  }
  return made;
}

function line(about: SeriesAbout, rows: readonly number[], buckets: Buckets, starts: readonly number[], place: ReadonlyMap<number, number>): Line {
  const lo: Values = new Array<undefined>(starts.length).fill(undefined);
  const hi: Values = [...lo];
  const mid: Values = [...lo];
  let notNumbers = 0;
  for (const row of rows) {
    const at = place.get(buckets.bucket[row]!)!;
    const strange = buckets.nan[row]! + buckets.pos_inf[row]! + buckets.neg_inf[row]!;
    notNumbers += strange;
    const finite = buckets.n[row]! - strange;
    if (buckets.lo[row] === null || finite <= 0) {
      lo[at] = hi[at] = mid[at] = null; // only NaN or infinities: the line breaks here
      continue;
    }
    lo[at] = buckets.lo[row]!;
    hi[at] = buckets.hi[row]!;
    const mean = buckets.sum[row]! / finite;
    // The mean of a constant may differ from it by rounding.
    mid[at] = Math.min(Math.max(mean, lo[at]), hi[at]);
  }
  for (const [from, to] of about.gaps) {
    // The line stops at a gap, if the chart has a place between the point before it and the one after.
    const at = starts.findIndex((start) => (from === null || start > from) && (to === null || start < to));
    if (at >= 0 && mid[at] === undefined) lo[at] = hi[at] = mid[at] = null;
  }
  return { about, lo, hi, mid, notNumbers };
}

/** Exponential smoothing without the pull to zero at the start. Weight 0 changes nothing, 0.99 is very smooth. */
export function smooth(values: Values, weight: number): Values {
  if (weight <= 0) return values;
  let sum = 0;
  let weights = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    sum = sum * weight + value * (1 - weight);
    weights = weights * weight + (1 - weight);
    return sum / weights;
  });
}

/** Places of labels, at least `gap` apart, within `least` and `most`, near to where they belong. In the order given. */
export function spread(wanted: readonly number[], gap: number, least: number, most: number): number[] {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a]! - wanted[b]!);
  const placed = order.map((i) => wanted[i]!);
  for (let i = 1; i < placed.length; i += 1) placed[i] = Math.max(placed[i]!, placed[i - 1]! + gap);
  for (let i = placed.length - 1; i >= 0; i -= 1) {
    const limit = i === placed.length - 1 ? most : placed[i + 1]! - gap;
    placed[i] = Math.min(placed[i]!, limit);
  }
  for (let i = 0; i < placed.length; i += 1) placed[i] = Math.max(placed[i]!, i === 0 ? least : placed[i - 1]! + gap);
  const found: number[] = new Array<number>(wanted.length);
  order.forEach((index, i) => (found[index] = placed[i]!));
  return found;
}

const DASHES: readonly (readonly number[])[] = [[], [6, 3], [2, 3], [9, 3, 2, 3], [1, 2]];

/** Dashes for lines, so that those of one colour differ: by the order in which they come. */
export function dashes(colours: readonly string[]): (readonly number[])[] {
  const seen = new Map<string, number>();
  return colours.map((colour) => {
    const n = seen.get(colour) ?? 0;
    seen.set(colour, n + 1);
    return DASHES[n % DASHES.length]!;
  });
}

/** The first and last value of a line. */
export function ends(line: Line): [first: number, last: number] | null {
  const real = line.mid.filter((value): value is number => typeof value === "number");
  return real.length ? [real[0]!, real[real.length - 1]!] : null;
}

/** One sentence for readers who do not see the chart. */
export function sentence(data: ChartData): string {
  const found = data.lines.flatMap((one) => { const e = ends(one); return e ? [e] : []; });
  const what = `${data.key} of ${data.lines.length} ${data.lines.length === 1 ? "run" : "runs"}`;
  if (found.length === 0) return `${what}: no numbers`;
  const mean = (list: readonly number[]): number => list.reduce((sum, value) => sum + value, 0) / list.length;
  const [first, last] = [mean(found.map((e) => e[0])), mean(found.map((e) => e[1]))];
  const way = last < first ? "falling" : last > first ? "rising" : "constant";
  const broken = data.lines.filter((one) => one.about.gaps.length).length;
  return `${what}, ${way} from ${number(first, 2)} to ${number(last, 2)}${broken ? `; events are missing in ${broken}` : ""}`;
}

/** What was done to the numbers, for the caption. */
export function caption(data: ChartData, smoothing: number, x: string): string {
  const unit = x === "step" ? "steps" : x === "time" || x === "relative" ? "ms" : `of ${x}`;
  const strange = data.lines.reduce((sum, one) => sum + one.notNumbers, 0);
  return [
    data.exact ? "Points as logged." : `Line: mean, band: min and max of each ${number(data.bucketWidth)} ${unit}; zoom for points.`,
    smoothing > 0 ? `Smoothed by ${smoothing}.` : "",
    strange > 0 ? `${number(strange)} ${strange === 1 ? "point is" : "points are"} NaN or infinite and not drawn.` : "",
  ].filter(Boolean).join(" ");
}

/** A small path of a line, for a table's cell. */
export function sparkline(values: Values, width: number, height: number): { path: string; end: [number, number] } | null {
  const real = values.flatMap((value, i) => (typeof value === "number" ? [[i, value] as const] : []));
  if (real.length === 0) return null;
  const ys = real.map(([, value]) => value);
  const [least, most] = [Math.min(...ys), Math.max(...ys)];
  const last = real[real.length - 1]![0] || 1;
  const at = ([i, value]: readonly [number, number]): [number, number] =>
    [(i / last) * (width - 4), most > least ? height - 2 - ((value - least) / (most - least)) * (height - 4) : height / 2];
  const points = real.map(at);
  return { path: `M${points.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L")}`, end: points[points.length - 1]! };
}
