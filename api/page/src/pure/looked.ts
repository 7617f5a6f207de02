// "Since you last looked": where the reader was in the log at the visit before this one.

export interface Place {
  offset: number;
  /** Milliseconds since 1970. */
  at: number;
}

export interface Visits {
  /** The newest that this visit has seen. */
  now: Place;
  /** The newest that the visit before had seen. */
  before: Place | null;
}

/** Two looks within this time are one visit: a reload draws the same line. */
export const VISIT_MS = 15 * 60_000;

/** The visits after a look at `offset`. */
export function look(visits: Visits | null, offset: number, at: number): Visits {
  const now = { offset, at };
  if (visits === null || at < visits.now.at) return { now, before: visits?.before ?? null };
  return { now, before: at - visits.now.at > VISIT_MS ? visits.now : visits.before };
}

/** Visits as they were stored; null if there are none, or no sense in them. */
export function parseVisits(text: string | null): Visits | null {
  try {
    const found: unknown = JSON.parse(text ?? "null");
    if (typeof found !== "object" || found === null) return null;
    const { now, before } = found as { now?: unknown; before?: unknown };
    return isPlace(now) ? { now, before: isPlace(before) ? before : null } : null;
  } catch {
    return null;
  }
}

function isPlace(value: unknown): value is Place {
  if (typeof value !== "object" || value === null) return false;
  const { offset, at } = value as Record<string, unknown>;
  return Number.isSafeInteger(offset) && typeof at === "number" && Number.isFinite(at);
}
