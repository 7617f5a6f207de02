// Numbers, durations and times as the page writes them.

const MINUS = "\u2212";
const THIN = "\u2009";

/** A value of a metric as JSON gives it: NaN and the infinities are text. */
export type Value = number | "NaN" | "Infinity" | "-Infinity";

/** The number that JSON's value stands for. */
export function asNumber(value: Value): number {
  return typeof value === "number" ? value : Number(value);
}

/** A number in 4 significant digits: `0.03127`, `1.2e−9`, `12 345`; NaN and infinities as words. */
export function number(value: number, digits = 4): string {
  if (Number.isNaN(value)) return "NaN";
  if (value === Infinity) return "∞";
  if (value === -Infinity) return `${MINUS}∞`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return grouped(String(value));
  if (size < 1e-4 || size >= 1e9) {
    const [mantissa, power] = value.toExponential(digits - 1).split("e") as [string, string];
    return `${minus(mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa)}e${minus(power.replace("+", ""))}`;
  }
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return grouped(value.toFixed(Math.min(places, 20)));
}

/** A whole number with thin spaces between thousands. */
export function count(value: number): string {
  return grouped(String(Math.round(value)));
}

/**
 * The decimal places that write all values of a column in one precision: 4 digits of the largest, and up to two
 * places more where the small ones need them.
 */
export function places(values: Iterable<number>, digits = 4): number | null {
  let largest = 0;
  let smallest = Infinity;
  let whole = true;
  for (const value of values) {
    if (!Number.isFinite(value) || value === 0) continue;
    largest = Math.max(largest, Math.abs(value));
    smallest = Math.min(smallest, Math.abs(value));
    whole &&= Number.isInteger(value);
  }
  if (whole) return 0;
  if (largest < 1e-4 || largest >= 1e9) return null; // each in its own power of ten
  const of = (value: number, n: number): number => Math.max(0, n - 1 - Math.floor(Math.log10(value)));
  const wanted = of(largest, digits);
  return Math.min(Math.max(wanted, Math.min(wanted + 2, of(smallest, 2))), 8);
}

/** A number of a column whose precision is known; what would show as zero keeps its digits. */
export function inColumn(value: number, decimals: number | null): string {
  if (decimals === null || !Number.isFinite(value)) return number(value);
  if (value !== 0 && Math.abs(value) < 0.5 * 10 ** -decimals) return number(value, 2);
  return grouped(value.toFixed(decimals));
}

function grouped(text: string): string {
  const [, sign = "", whole = "", rest = ""] = /^(-?)(\d+)(.*)$/.exec(text) ?? [];
  const thousands = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, THIN) : whole;
  return (sign && MINUS) + thousands + rest;
}

function minus(text: string): string {
  return text.replace("-", MINUS);
}

/** Bytes in units of 1,000: `1.2 GB`. */
export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let left = value;
  while (left >= 999.5 && unit < units.length - 1) {
    left /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? left : number(left, 3)}\u00a0${units[unit]}`;
}

/** A duration: `0.4 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 0) return `${MINUS}${duration(-seconds)}`;
  if (seconds < 1) return seconds < 0.001 ? "0 s" : `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds < 9.95 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`;
  const parts: [number, string][] = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  let left = Math.round(seconds);
  const first = parts.findIndex(([size]) => left >= size);
  const words: string[] = [];
  for (const [size, unit] of parts.slice(first, first + 2)) {
    const n = Math.floor(left / size);
    left -= n * size;
    if (n > 0) words.push(`${n} ${unit}`);
  }
  return words.join(" ");
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const pad = (n: number): string => String(n).padStart(2, "0");

/** A time: `24 Nov 17:09:29`; with the year if it is not this one. Local zone, or UTC. */
export function time(at: Date, { utc = false, now = new Date(), seconds = true } = {}): string {
  const year = utc ? at.getUTCFullYear() : at.getFullYear();
  const thisYear = utc ? now.getUTCFullYear() : now.getFullYear();
  return `${day(at, utc)}${year === thisYear ? "" : ` ${year}`} ${clock(at, { utc, seconds })}`;
}

/** A day: `24 Nov`. */
export function day(at: Date, utc = false): string {
  return `${utc ? at.getUTCDate() : at.getDate()} ${MONTHS[utc ? at.getUTCMonth() : at.getMonth()]}`;
}

/** A time of day: `17:09:29`. */
export function clock(at: Date, { utc = false, seconds = true } = {}): string {
  const [h, m, s] = utc
    ? [at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds()]
    : [at.getHours(), at.getMinutes(), at.getSeconds()];
  return `${pad(h)}:${pad(m)}${seconds ? `:${pad(s)}` : ""}`;
}

/** How long ago: `now`, `20 s ago`, `3 h ago`, `5 months ago`; `in 3 h` for what is to come. */
export function ago(at: Date, now: Date): string {
  const seconds = (now.getTime() - at.getTime()) / 1000;
  const size = Math.abs(seconds);
  if (size < 10) return "now";
  const steps: [number, string][] = [[31_557_600, "year"], [2_629_800, "month"], [86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  const [unit, word] = steps.find(([step]) => size >= step) ?? [1, "s"];
  const n = Math.floor(size / unit);
  const text = `${n} ${word}${word.length > 3 && n !== 1 ? "s" : ""}`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

/** A position of the log as text for people: `registry:0:31` is "offset 31". */
export function position(text: string): string {
  const [, stream, partition, offset] = /^(\w+):(\d+):(\d+)$/.exec(text) ?? [];
  if (offset === undefined) return text;
  return stream === "registry" ? `offset ${count(Number(offset))}` : `${stream} ${partition}, offset ${count(Number(offset))}`;
}
