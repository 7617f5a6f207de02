// The strip of the time bar: which moment stands where, and which marks say so.

export interface Bucket {
  from: string;
  to: string;
  events: number;
  refused: number;
}

const DAY = 86_400_000;

/** The place of a time on the strip, 0 to 1. */
export function placeOf(at: number, from: number, to: number): number {
  return to > from ? Math.min(1, Math.max(0, (at - from) / (to - from))) : 1;
}

/** The time at a place of the strip. */
export function timeAt(place: number, from: number, to: number): number {
  return from + Math.min(1, Math.max(0, place)) * (to - from);
}

/** The height of a bucket, 0 to 1: by the root, so that single events beside busy hours can be seen. */
export function height(events: number, most: number): number {
  return most > 0 && events > 0 ? Math.max(0.1, Math.sqrt(events / most)) : 0;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Where the strip has marks, and what they say: months, days or hours, at most eight. Local time. */
export function marks(from: number, to: number, most = 8): { at: number; text: string }[] {
  const span = to - from;
  if (span <= 0) return [];
  const pad = (n: number): string => String(n).padStart(2, "0");
  const steps: [ms: number, next: (date: Date, n: number) => void, text: (date: Date) => string, floor: (date: Date) => void][] = [
    [60_000, (d, n) => d.setMinutes(d.getMinutes() + n), (d) => `${pad(d.getHours())}:${pad(d.getMinutes())}`, (d) => d.setMinutes(0, 0, 0)],
    [3_600_000, (d, n) => d.setHours(d.getHours() + n), (d) => (d.getHours() === 0 ? `${d.getDate()} ${MONTHS[d.getMonth()]}` : `${pad(d.getHours())}:00`), (d) => d.setHours(0, 0, 0, 0)],
    [DAY, (d, n) => d.setDate(d.getDate() + n), (d) => `${d.getDate()} ${MONTHS[d.getMonth()]}`, (d) => d.setHours(0, 0, 0, 0)],
    [30 * DAY, (d, n) => d.setMonth(d.getMonth() + n), (d) => (d.getMonth() === 0 ? String(d.getFullYear()) : MONTHS[d.getMonth()]!), (d) => { d.setHours(0, 0, 0, 0); d.setDate(1); }],
    [365 * DAY, (d, n) => d.setFullYear(d.getFullYear() + n), (d) => String(d.getFullYear()), (d) => { d.setHours(0, 0, 0, 0); d.setMonth(0, 1); }],
  ];
  const multiples: Record<number, readonly number[]> = { 60_000: [1, 5, 15, 30], 3_600_000: [1, 3, 6, 12], [DAY]: [1, 2, 7, 14], [30 * DAY]: [1, 2, 3, 6], [365 * DAY]: [1, 2, 5, 10] };
  for (const [ms, next, text, floor] of steps) {
    for (const n of multiples[ms]!) {
      if (span / (ms * n) > most) continue;
      const date = new Date(from);
      floor(date);
      const found: { at: number; text: string }[] = [];
      for (let tries = 0; date.getTime() <= to && tries < 400; tries += 1) {
        if (date.getTime() >= from) found.push({ at: date.getTime(), text: text(date) });
        next(date, n);
      }
      return found;
    }
  }
  return [];
}
