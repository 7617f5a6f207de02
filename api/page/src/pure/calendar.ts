// A time axis: a linear scale, and ticks at whole minutes, hours, days, months in the reader's zone.

export interface Tick {
  at: number;
  text: string;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

type Unit = "ms" | "s" | "min" | "h" | "d" | "month" | "year";
const STEPS: readonly [size: number, unit: Unit, every: number][] = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500].map((n): [number, Unit, number] => [n, "ms", n]),
  ...[1, 2, 5, 10, 15, 30].map((n): [number, Unit, number] => [n * SECOND, "s", n]),
  ...[1, 2, 5, 10, 15, 30].map((n): [number, Unit, number] => [n * MINUTE, "min", n]),
  ...[1, 2, 3, 6, 12].map((n): [number, Unit, number] => [n * HOUR, "h", n]),
  ...[1, 2, 7, 14].map((n): [number, Unit, number] => [n * DAY, "d", n]),
  ...[1, 2, 3, 6].map((n): [number, Unit, number] => [n * 30.44 * DAY, "month", n]),
  ...[1, 2, 5, 10].map((n): [number, Unit, number] => [n * 365.25 * DAY, "year", n]),
];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const pad = (n: number, width = 2): string => String(n).padStart(width, "0");

/** Ticks from `from` to `to` (milliseconds since 1970), at most `most` of them. */
export function ticks(from: number, to: number, most: number): Tick[] {
  if (!(to > from) || most < 1) return [];
  const step = STEPS.find(([size]) => (to - from) / size <= most) ?? STEPS[STEPS.length - 1]!;
  const found: Tick[] = [];
  for (let at = firstTick(from, step); at <= to && found.length <= most; at = nextTick(at, step)) {
    if (at >= from) found.push({ at, text: tickText(at, step[1]) });
  }
  return found;
}

function firstTick(from: number, [size, unit, every]: readonly [number, Unit, number]): number {
  const at = new Date(from);
  switch (unit) {
    case "year": return new Date(at.getFullYear() - (at.getFullYear() % every), 0, 1).getTime();
    case "month": return new Date(at.getFullYear(), at.getMonth() - (at.getMonth() % every), 1).getTime();
    case "d": return new Date(at.getFullYear(), at.getMonth(), at.getDate()).getTime();
    case "h": return new Date(at.getFullYear(), at.getMonth(), at.getDate(), at.getHours() - (at.getHours() % every)).getTime();
    default: return Math.floor(from / size) * size; // zones differ by whole quarters of an hour
  }
}

function nextTick(from: number, [size, unit, every]: readonly [number, Unit, number]): number {
  const at = new Date(from);
  switch (unit) {
    case "year": return new Date(at.getFullYear() + every, 0, 1).getTime();
    case "month": return new Date(at.getFullYear(), at.getMonth() + every, 1).getTime();
    case "d": return new Date(at.getFullYear(), at.getMonth(), at.getDate() + every).getTime();
    case "h": return Math.max(new Date(at.getFullYear(), at.getMonth(), at.getDate(), at.getHours() + every).getTime(), from + HOUR);
    default: return from + size;
  }
}

function tickText(time: number, unit: Unit): string {
  const at = new Date(time);
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}`;
  const day = `${at.getDate()} ${MONTHS[at.getMonth()]}`;
  switch (unit) {
    case "year": return String(at.getFullYear());
    case "month": return at.getMonth() === 0 ? String(at.getFullYear()) : MONTHS[at.getMonth()]!;
    case "d": return day;
    case "h":
    case "min": return at.getHours() === 0 && at.getMinutes() === 0 ? day : clock;
    case "s": return `${clock}:${pad(at.getSeconds())}`;
    case "ms": return `${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
  }
}

/** A linear scale from values to pixels. */
export function linear(from: number, to: number, left: number, right: number): (value: number) => number {
  const size = to - from || 1;
  return (value) => left + ((value - from) / size) * (right - left);
}

/** Three to five round values in a range, for a small axis. */
export function roundValues(lo: number, hi: number, most = 4): number[] {
  if (!Number.isFinite(lo) || !Number.isFinite(hi)) return [];
  if (lo === hi) return [lo];
  const rough = (hi - lo) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((n) => n * power >= rough) ?? 10);
  const found: number[] = [];
  for (let i = Math.ceil(lo / step); i * step <= hi + step * 1e-9; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}
