// What is wrong with a server, in words, from the answer of `GET /api/v1/status`.
import { bytes, count } from "./format.ts";

export interface Check {
  name: string;
  ok: boolean;
  found: string;
  repair: string | null;
}

export interface Delivery {
  position: string;
  lag: number;
  pending: number;
  dead: number;
  replays: number;
  error: string | null;
}

export interface ServerStatus {
  version: string;
  projection_version: number;
  log: string;
  pid: number;
  events_folded: number;
  dead_letters: number;
  fold_error: string | null;
  folded_at_ms: number | null;
  disk: { free_bytes: number; total_bytes: number } | null;
  webhooks: Delivery | null;
  positions: Record<string, number>;
  /** Null while the log cannot be reached. */
  lag: Record<string, number> | null;
  log_error?: string;
  /** What `modeltrail doctor` finds. */
  checks?: Check[];
}

export interface Trouble {
  kind: "bad" | "warn";
  what: string;
  /** What to do. */
  repair: string | null;
}

const LAG_MAX = 10_000;
const FREE_SHARE_MIN = 0.05;

/** All events that are in the log and not yet in the tables. */
export function lagOf(status: ServerStatus): number | null {
  return status.lag && Object.values(status.lag).reduce((sum, one) => sum + one, 0);
}

/** What wants attention, the worst first. */
export function troubles(status: ServerStatus): Trouble[] {
  const found: Trouble[] = [];
  const add = (kind: Trouble["kind"], what: string, repair: string | null = null): void => void found.push({ kind, what, repair });
  if (status.fold_error) add("bad", `The fold stands still: ${status.fold_error}`, "modeltrail doctor");
  if (status.log_error) add("bad", `The log cannot be reached: ${status.log_error}`);
  const lag = lagOf(status);
  if (lag !== null && lag > LAG_MAX) add("warn", `The tables are ${count(lag)} events behind the log`);
  if (status.dead_letters > 0) {
    add("warn", `${count(status.dead_letters)} ${status.dead_letters === 1 ? "event is a dead letter" : "events are dead letters"}`, "see why below, and try again after the repair");
  }
  const hooks = status.webhooks;
  if (hooks?.error) add("bad", `Webhooks are not delivered: ${hooks.error}`);
  if (hooks && hooks.dead > 0) add("warn", `${count(hooks.dead)} deliveries of webhooks were given up`, "try them again below once the receiver is back");
  const disk = status.disk;
  if (disk && disk.free_bytes < disk.total_bytes * FREE_SHARE_MIN) add("warn", `Only ${bytes(disk.free_bytes)} of the disk are free`);
  for (const check of status.checks ?? []) if (!check.ok) add("bad", `${check.name}: ${check.found}`, check.repair);
  return [...found].sort((a, b) => Number(a.kind === "warn") - Number(b.kind === "warn"));
}
