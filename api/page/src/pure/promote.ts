// What a promotion or a rollback asks for, said before it is asked.
import { formerHolders, holder, type Bar, type Former, type Lane, type Timeline } from "./timeline.ts";

/** One request to the registry. */
export interface Asking {
  /** In words: `@champion: 4 → 2`. */
  text: string;
  path: string;
  body: Record<string, unknown>;
  alias: string | null;
}

/** The request that points an alias at a version, if `expected` holds it still (null: nothing does). */
export function setAlias(model: string, alias: string, version: number, expected: number | null, reason: string): Asking {
  return {
    text: `@${alias}: ${expected ?? "none"} → ${version}`,
    path: `${modelPath(model)}/aliases/${encodeURIComponent(alias)}`,
    body: { version, expected: expected ?? 0, reason },
    alias,
  };
}

/** The request that moves a version into a stage; who was there before is archived if `archive`. */
export function setStage(model: string, version: number, stage: string, expected: string, archive: boolean, reason: string): Asking {
  return {
    text: `version ${version}: ${expected === "None" ? "no stage" : expected} → ${stage}`,
    path: `${modelPath(model)}/versions/${version}/stage`,
    body: { stage, expected, archive_existing_versions: archive, reason },
    alias: null,
  };
}

function modelPath(model: string): string {
  return `/api/v1/models/${encodeURIComponent(model)}`;
}

/** A lane of the timeline by its name. */
export function laneOf(timeline: Timeline, kind: "alias" | "stage", name: string): Lane | undefined {
  return timeline.lanes.find((lane) => lane.kind === kind && lane.name === name);
}

/** Whom an alias can be rolled back to, the latest first, and who holds it. */
export function rollbacks(timeline: Timeline, alias: string): { holder: Bar | null; former: Former[] } {
  const lane = laneOf(timeline, "alias", alias);
  const exists = new Set(timeline.versions.map((one) => one.version));
  return { holder: holder(lane), former: lane ? formerHolders(lane).filter(({ bar }) => exists.has(bar.version)) : [] };
}

/** The stage that the holder of an alias is in and the version to come is not: it should move too. */
export function stageToMove(timeline: Timeline, from: number | null, to: number): { stage: string; expected: string } | null {
  const stageOf = (version: number | null): string => timeline.versions.find((one) => one.version === version)?.stage ?? "None";
  const stage = stageOf(from);
  const expected = stageOf(to);
  if ((stage !== "Production" && stage !== "Staging") || stage === expected) return null;
  return { stage, expected };
}

/** Who else is in a stage and would be archived. */
export function archived(timeline: Timeline, stage: string, version: number): number[] {
  const lane = laneOf(timeline, "stage", stage);
  return (lane?.bars ?? []).filter((bar) => bar.to_offset === null && bar.version !== version).map((bar) => bar.version);
}
