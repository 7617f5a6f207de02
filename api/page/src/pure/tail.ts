// The tail of the log: lines as they come, the newest first, and which of them are wanted.

export interface Line {
  position: string;
  stream: string;
  appended_at: string;
  type: string | null;
  actor: string | null;
  actor_verified: boolean | null;
  client: string | null;
  bytes?: number;
  /** accepted, refused, applied, repeat, dead_letter. */
  outcome: string;
  reason?: string | null;
  error?: string;
  run_id?: string;
  model_id?: string;
  points?: number;
  keys?: string[];
  entity?: string | null;
  experiment_id?: string | null;
  model?: string | null;
  version?: number | null;
  alias?: string | null;
  code?: string | null;
  message?: string | null;
}

export const KEPT_MAX = 2_000;

/** The newest lines before the older ones, each position once, at most `KEPT_MAX`. */
export function added(old: readonly Line[], came: readonly Line[]): readonly Line[] {
  const known = new Set(old.slice(0, KEPT_MAX).map((line) => line.position));
  const fresh = came.filter((line) => !known.has(line.position));
  return fresh.length ? [...fresh.reverse(), ...old].slice(0, KEPT_MAX) : old;
}

/** What a line is about, in words. */
export function about(line: Line): string {
  if (line.error) return line.error;
  if (line.points !== undefined) {
    const keys = line.keys ?? [];
    return `${line.points} ${line.points === 1 ? "point" : "points"}${keys.length ? ` of ${keys.join(", ")}` : ""}`;
  }
  if (line.model) return [line.model, line.alias && `@${line.alias}`, line.version && `version ${line.version}`].filter(Boolean).join(" ");
  return line.reason ?? "";
}

/** Whether a line has all words of a filter; a word with `-` before it must be absent. */
export function fits(line: Line, filter: string): boolean {
  const text = `${line.position} ${line.type ?? ""} ${line.actor ?? ""} ${line.outcome.replace("_", " ")} ${line.run_id ?? ""} ${about(line)} ${line.reason ?? ""} ${line.message ?? ""}`.toLowerCase();
  return filter.toLowerCase().split(/\s+/).filter(Boolean).every((word) => (word.length > 1 && word.startsWith("-") ? !text.includes(word.slice(1)) : text.includes(word)));
}

/** Milliseconds from the log to the page; the browser's clock may be off by `offsetMs`. */
export function lagOfLine(line: Line, nowMs: number, offsetMs: number): number {
  return Math.max(0, nowMs + offsetMs - Date.parse(line.appended_at));
}
