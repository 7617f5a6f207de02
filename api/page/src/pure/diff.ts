// What differs between two moments, in an order that people read: by model, version, what.

export interface Cause {
  log_offset: number;
  appended_at: string;
  actor: string | null;
  verified: boolean | null;
  reason: string | null;
  type: string;
}

export interface Change {
  entity: string;
  experiment_id: string | null;
  experiment_name?: string | null;
  model: string | null;
  version: number | null;
  attribute: string;
  key: string | null;
  before: string | null;
  after: string | null;
  events: Cause[];
}

export interface Group {
  /** `model digits` or `experiment 1`. */
  title: string;
  model: string | null;
  changes: Change[];
}

/** Changes by model and experiment; in each, aliases and stages first, as they are what serves. */
export function groups(changes: readonly Change[]): Group[] {
  const found = new Map<string, Group>();
  for (const change of changes) {
    const title = change.model !== null ? `model ${change.model}`
      : change.experiment_id !== null ? `experiment ${change.experiment_name ?? change.experiment_id}` : change.entity;
    const group = found.get(title) ?? { title, model: change.model, changes: [] };
    group.changes.push(change);
    found.set(title, group);
  }
  for (const group of found.values()) group.changes.sort((a, b) => rank(a) - rank(b) || (a.version ?? 0) - (b.version ?? 0) || name(a).localeCompare(name(b)));
  return [...found.values()].sort((a, b) => Number(b.model !== null) - Number(a.model !== null) || a.title.localeCompare(b.title));
}

function rank(change: Change): number {
  const found = ["alias", "stage", "exists", "name", "description", "tag"].indexOf(change.attribute);
  return found === -1 ? 9 : found;
}

/** What changed: `@champion`, `version 2 · stage`, `tag owner`. */
export function name(change: Change): string {
  const version = change.version === null || change.attribute === "alias" ? "" : `version ${change.version}`;
  const what = change.attribute === "alias" ? `@${change.key ?? ""}`
    : change.attribute === "tag" ? `tag ${change.key ?? ""}`
    : change.key === null || change.key === "" ? change.attribute : `${change.attribute} ${change.key}`;
  return version ? `${version} · ${what}` : what;
}

/** How many things appeared, changed and went. */
export function counts(changes: readonly Change[]): { added: number; changed: number; removed: number } {
  const found = { added: 0, changed: 0, removed: 0 };
  for (const { before, after } of changes) {
    if (before === null) found.added += 1;
    else if (after === null) found.removed += 1;
    else found.changed += 1;
  }
  return found;
}
