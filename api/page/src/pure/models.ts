// What the list of models shows beside each: holders and the last refusal.

export interface Holding {
  model: string;
  version: number;
  kind: "alias" | "stage";
  name: string;
  set_at: string;
  set_by: string | null;
  verified: boolean | null;
  reason: string | null;
  from_offset: number;
}

export interface Refused {
  log_offset: number;
  appended_at: string;
  model: string | null;
  actor: string | null;
  actor_verified: boolean | null;
  code: string | null;
  message: string | null;
}

/** Holders, in the order that the server gives, and the newest refusal, by model. */
export function byModel(holders: readonly Holding[], refusals: readonly Refused[]): { holdings: Map<string, Holding[]>; refused: Map<string, Refused> } {
  const holdings = new Map<string, Holding[]>();
  for (const one of holders) holdings.set(one.model, [...(holdings.get(one.model) ?? []), one]);
  const refused = new Map<string, Refused>();
  for (const one of refusals) {
    if (one.model === null) continue;
    const before = refused.get(one.model);
    if (!before || before.log_offset < one.log_offset) refused.set(one.model, one);
  }
  return { holdings, refused };
}
