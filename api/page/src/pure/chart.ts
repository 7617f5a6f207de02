// Which chart a table of values asks for: guessed from the types of its columns and from the values.
import { asNumber, type Value } from "./format.ts";

export type Kind = "lines" | "steps" | "points" | "bars";

export interface Chart {
  kind: Kind;
  x: string;
  y: string;
  /** The column whose values are the series; null: one series. */
  colour: string | null;
}

export interface Table {
  columns: readonly string[];
  types: readonly string[];
  rows: readonly (readonly unknown[])[];
}

export type Scale = "number" | "time" | "text";

/** Series that are drawn; the first eight have colours. */
const SERIES_MAX = 30;
const STEPS = /^(step|epoch|iteration|batch|n|i|bucket|hour|day|week|month|year)s?$/i;

/** Numbers that name something. */
const NAMES = /(^version|offset|_id|_ms)$/i;

/** How the values of a DuckDB type are drawn. */
export function scaleOf(type: string): Scale | null {
  if (/^(TIMESTAMP|DATE)/.test(type)) return "time";
  if (/^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DOUBLE|FLOAT|DECIMAL)/.test(type) && !type.endsWith("]")) return "number";
  return /^(VARCHAR|BOOLEAN|UUID|ENUM|")/.test(type) && !type.endsWith("]") ? "text" : null;
}

/** A value on its scale; NaN if it has no place there. */
export function placeOf(value: unknown, scale: Scale): number {
  if (value === null || value === undefined) return NaN;
  if (scale === "time") return Date.parse(String(value));
  return scale === "number" ? asNumber(value as Value) : NaN;
}

/** The chart that the table most likely wants; null if nothing in it can be drawn. */
export function guess(table: Table): Chart | null {
  const columns = table.columns.map((name, at) => ({ name, at, scale: scaleOf(table.types[at] ?? "") }));
  const numbers = columns.filter((one) => one.scale === "number");
  if (!numbers.length || table.rows.length < 2) return null;
  const few = columns.filter((one) => one.scale !== "time" && isGrouping(table, one.at));
  const time = columns.find((one) => one.scale === "time");
  const step = numbers.find((one) => STEPS.test(one.name));
  const value = (not: readonly string[]) => [...numbers].reverse().find((one) => !not.includes(one.name) && !STEPS.test(one.name) && !NAMES.test(one.name));
  const x = time ?? step;
  if (x) {
    const colour = few.find((one) => one.scale === "text" || /^(version|seed|fold|rank)$/i.test(one.name));
    const y = value([x.name, colour?.name ?? ""]);
    if (y && y.name !== x.name) {
      const kind = colour || isSorted(table, x.at) ? (time && table.rows.length < 20 ? "steps" : "lines") : "points";
      return { kind, x: x.name, y: y.name, colour: colour?.name ?? null };
    }
  }
  const text = columns.find((one) => one.scale === "text" && isDistinct(table, one.at));
  const y = value([]) ?? numbers[0]!;
  if (text && table.rows.length <= 60) return { kind: "bars", x: text.name, y: y.name, colour: null };
  const colour = few.find((one) => one.scale === "text")?.name ?? null;
  const other = numbers.find((one) => one.name !== y.name);
  if (other) return { kind: isSorted(table, other.at) ? "lines" : "points", x: other.name, y: y.name, colour };
  return text ? { kind: "bars", x: text.name, y: y.name, colour: null } : null;
}

function isGrouping(table: Table, at: number): boolean {
  const found = new Set<unknown>();
  for (const row of table.rows) {
    found.add(row[at]);
    if (found.size > SERIES_MAX) return false;
  }
  return found.size > 1 && found.size < table.rows.length;
}

function isDistinct(table: Table, at: number): boolean {
  return new Set(table.rows.map((row) => row[at])).size === table.rows.length;
}

function isSorted(table: Table, at: number): boolean {
  const type = scaleOf(table.types[at] ?? "") ?? "text";
  let last = -Infinity;
  for (const row of table.rows) {
    const place = placeOf(row[at], type);
    if (!(place >= last)) return false;
    last = place;
  }
  return true;
}

export interface Series {
  name: string;
  points: { x: number; y: number }[];
  /** How many rows have no place, such as NaN. */
  left: number;
}

export interface Drawn {
  series: Series[];
  /** Names of the places on a scale of texts. */
  names: string[];
  x: [number, number];
  y: [number, number];
  /** Values of `colour` that are not drawn. */
  more: number;
}

/** The points of a chart by series, with the extent of both axes; null if no row has a place. */
export function draw(table: Table, chart: Chart): Drawn | null {
  const [x, y] = [table.columns.indexOf(chart.x), table.columns.indexOf(chart.y)];
  const by = chart.colour === null ? -1 : table.columns.indexOf(chart.colour);
  if (x < 0 || y < 0) return null;
  const scale = scaleOf(table.types[x] ?? "") ?? "text";
  const isNamed = scale === "text" || chart.kind === "bars";
  const names: string[] = [];
  const placeOfName = new Map<string, number>();
  const series = new Map<string, Series>();
  for (const row of table.rows) {
    const name = by < 0 ? chart.y : String(row[by] ?? "NULL");
    let one = series.get(name);
    if (!one) series.set(name, (one = { name, points: [], left: 0 }));
    let place = NaN;
    if (isNamed) {
      const text = row[x] === null ? "NULL" : String(row[x]);
      if (!placeOfName.has(text)) {
        placeOfName.set(text, names.length);
        names.push(text);
      }
      place = placeOfName.get(text)!;
    } else place = placeOf(row[x], scale);
    const value = placeOf(row[y], "number");
    if (Number.isFinite(place) && Number.isFinite(value)) one.points.push({ x: place, y: value });
    else one.left += 1;
  }
  const all = [...series.values()];
  const kept = all.slice(0, SERIES_MAX);
  const places = kept.flatMap((one) => one.points);
  if (!places.length) return null;
  if (chart.kind !== "points" && !isNamed) for (const one of kept) one.points.sort((a, b) => a.x - b.x);
  const span = (of: (point: { x: number; y: number }) => number): [number, number] => {
    let [lo, hi] = [Infinity, -Infinity];
    for (const point of places) {
      lo = Math.min(lo, of(point));
      hi = Math.max(hi, of(point));
    }
    return [lo, hi];
  };
  const yy = span((point) => point.y);
  if (chart.kind === "bars") yy.splice(0, 2, Math.min(0, yy[0]), Math.max(0, yy[1])); // lengths begin at zero
  if (yy[0] === yy[1]) yy.splice(0, 2, yy[0] - (Math.abs(yy[0]) || 1) / 2, yy[1] + (Math.abs(yy[1]) || 1) / 2);
  return { series: kept, names, x: isNamed ? [0, Math.max(names.length - 1, 0)] : span((point) => point.x), y: yy, more: all.length - kept.length };
}

/** What a chart shows, in one sentence for readers who do not see it. */
export function sentence(chart: Chart, drawn: Drawn): string {
  const points = drawn.series.reduce((sum, one) => sum + one.points.length, 0);
  const of = drawn.series.length > 1 ? ` of ${drawn.series.length} ${chart.colour}s` : "";
  return `${chart.y} by ${chart.x}${of}: ${points} values from ${drawn.y[0]} to ${drawn.y[1]}`;
}
