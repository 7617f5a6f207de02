// Moments as people type them, and as the API takes them.

/**
 * A moment from text: a position (`registry:0:31`, `31`, `offset 31`), a time (`2026-03-12 14:02`,
 * in the reader's zone unless it says another), or `now`. Null if it is none of these.
 */
export function parseMoment(input: string, now = new Date()): { as_of: string | null } | null {
  const text = input.trim();
  if (text === "" || /^now$/i.test(text)) return { as_of: null };
  const position = /^(?:registry:0:|offset\s+)?(\d[\d\s\u2009]{0,18})$/i.exec(text);
  if (position) return { as_of: `registry:0:${Number(position[1]!.replace(/\D/g, ""))}` };
  const back = /^(\d{1,5})\s*(min|minutes?|h|hours?|d|days?|w|weeks?)(?:\s+ago)?$/i.exec(text);
  if (back) {
    const unit = back[2]![0]!.toLowerCase();
    const size = { m: 60, h: 3_600, d: 86_400, w: 604_800 }[unit]!;
    return { as_of: new Date(now.getTime() - Number(back[1]) * size * 1000).toISOString() };
  }
  if (/^yesterday$/i.test(text)) return { as_of: new Date(now.getTime() - 86_400_000).toISOString() };
  const time = /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?)?$/i.exec(text);
  if (!time) return null;
  const [, year, month, day, hour = "00", minute = "00", second = "00", fraction = "", zone] = time;
  const local = `${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.slice(0, 3).padEnd(3, "0")}`;
  const offset = zone === undefined ? "" : /^(Z|UTC)$/i.test(zone) ? "Z" : zone.replace(/^(.\d{2}):?(\d{2})$/, "$1:$2");
  const at = new Date(local + offset);
  if (Number.isNaN(at.getTime()) || (offset === "" && at.getDate() !== Number(day))) return null;
  if (zone !== undefined && fraction.length > 3) return { as_of: `${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction}${offset}` };
  return { as_of: at.toISOString() };
}

/** A time as `parseMoment` reads it in the reader's zone, for a field: `2026-03-12 14:02:17`. */
export function fieldText(at: Date): string {
  const pad = (n: number): string => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}
