// What the events of the audit trail say, in words; who set a value; and who won a race.

export interface TrailEvent {
  log_offset: number;
  appended_at: string;
  event_id: string | null;
  type: string | null;
  actor: string | null;
  actor_verified: boolean | null;
  client: string | null;
  reason: string | null;
  entity: string | null;
  model: string | null;
  version: number | null;
  alias: string | null;
  experiment_id: string | null;
  about: string;
  accepted: boolean | null;
  code: string | null;
  message: string | null;
  request: Record<string, unknown> | null;
  hash: string;
  /** As the server groups them, if it says so: accepted, refused, repeat, dead letter. */
  outcome?: string;
}

export type Outcome = "accepted" | "refused" | "repeat" | "dead letter";

/** What became of a request. */
export function outcome(event: TrailEvent): Outcome {
  if (event.outcome) return event.outcome.replace("_", " ") as Outcome;
  if (event.type === null || event.accepted === null) return "dead letter";
  if (event.accepted) return "accepted";
  return event.code === "REPEAT" || event.code === "DUPLICATE" ? "repeat" : "refused";
}

/** What a request asks for, in a few words beside its model: `@champion → 2`, `version 1 → Staging`. */
export function asked(event: TrailEvent): string {
  const request = event.request ?? {};
  const version = event.version === null ? "" : `version ${event.version}`;
  switch (event.type) {
    case "SetRegisteredModelAlias": return `@${event.alias} → ${event.version}`;
    case "DeleteRegisteredModelAlias": return `@${event.alias} removed`;
    case "TransitionModelVersionStage": return `${version} → ${text(request.stage)}`;
    case "CreateModelVersion": return version ? `${version} made` : "new version";
    case "CommentAdded": return `${version}, comment`;
    case "SetModelVersionTag":
    case "DeleteModelVersionTag": return `${version}, tag ${text(request.key)}`;
    case "SetRegisteredModelTag":
    case "DeleteRegisteredModelTag": return `tag ${text(request.key)}`;
    default: return "";
  }
}

/** Who or what the request is about, when it is no model: as the server says it. */
export function subject(event: TrailEvent): string {
  return event.model ?? event.about ?? "";
}

/** One sentence: `ci-bot asked for @champion → 1`. */
export function eventSentence(event: TrailEvent): string {
  const who = event.actor ?? "Somebody";
  const what = asked(event);
  if (what) return `${who} asked for ${what}`;
  return event.about ? `${who}: ${words(event.type)}, ${event.about}` : `${who}: ${words(event.type)}`;
}

/** `SetRegisteredModelAlias` as words: `set registered model alias`. */
export function words(type: string | null): string {
  if (!type) return "not decoded";
  return type.replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase();
}

/** A request as it came, without the envelope, which is shown beside it. */
export function body(event: TrailEvent): Record<string, unknown> | null {
  if (event.request === null) return null;
  const { envelope: _, ...rest } = event.request;
  return rest;
}

/** The envelope's time: what the client claims. */
export function claimedAt(event: TrailEvent): string | null {
  const envelope = event.request?.envelope;
  const at = typeof envelope === "object" && envelope !== null ? (envelope as Record<string, unknown>).occurred_at_ms : null;
  return typeof at === "number" && Number.isFinite(at) && Math.abs(at) < 8.64e15 ? new Date(at).toISOString() : null;
}

export interface Evidence {
  kind: string;
  key: string;
  value: string;
  position: string | null;
}

/** The evidence that a request carries. */
export function evidence(event: TrailEvent): Evidence[] {
  const found = event.request?.evidence;
  if (!Array.isArray(found)) return [];
  return found
    .filter((one): one is Record<string, unknown> => typeof one === "object" && one !== null)
    .map((one) => ({ kind: text(one.kind), key: text(one.key), value: text(one.value), position: one.position == null ? null : text(one.position) }));
}

function text(value: unknown): string {
  return value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

export interface Race {
  won: TrailEvent;
  lost: TrailEvent;
  /** How much later the loser was appended. */
  ms: number;
  offsets: number;
}

/** For a request that was refused because somebody was faster: who, and by how much. */
export function race(lost: TrailEvent, events: readonly TrailEvent[]): Race | null {
  if (outcome(lost) !== "refused" || lost.code !== "RESOURCE_CONFLICT") return null;
  const won = events
    .filter((one) => one.accepted === true && one.model === lost.model && one.alias === lost.alias && one.type !== null
      && one.log_offset < lost.log_offset && (lost.alias !== null || one.type === lost.type))
    .sort((a, b) => b.log_offset - a.log_offset)[0];
  if (!won) return null;
  return { won, lost, ms: Date.parse(lost.appended_at) - Date.parse(won.appended_at), offsets: lost.log_offset - won.log_offset };
}

/** What can be asked of the trail: who set this? */
export type Target =
  | { what: "alias"; name: string }
  | { what: "stage"; version: number }
  | { what: "tag"; version: number | null; name: string }
  | { what: "description"; version: number | null };

/** The accepted events that set a value, newest first. */
export function blame(events: readonly TrailEvent[], target: Target): TrailEvent[] {
  const matches = (event: TrailEvent): boolean => {
    const request = event.request ?? {};
    switch (target.what) {
      case "alias":
        return event.entity === "alias" && event.alias === target.name;
      case "stage":
        return event.type === "TransitionModelVersionStage" && event.version === target.version;
      case "tag":
        return /Tag$/.test(event.type ?? "") && request.key === target.name && event.version === target.version
          || carries(request.tags, target.name) && event.version === target.version && /^Create/.test(event.type ?? "");
      case "description":
        return "description" in request && request.description !== null && event.version === target.version;
    }
  };
  return events.filter((event) => event.accepted === true && matches(event)).sort((a, b) => b.log_offset - a.log_offset);
}

function carries(tags: unknown, name: string): boolean {
  return typeof tags === "object" && tags !== null && name in tags;
}

/** What an event set a value to, for "before it". */
export function valueSet(event: TrailEvent, target: Target): string | null {
  const request = event.request ?? {};
  switch (target.what) {
    case "alias": return event.type?.startsWith("Delete") ? null : `version ${event.version}`;
    case "stage": return text(request.stage) || null;
    case "tag": {
      if (event.type?.startsWith("Delete")) return null;
      const tags = request.tags as Record<string, unknown> | undefined;
      return text(request.value ?? tags?.[target.name]) || null;
    }
    case "description": return text(request.description) || null;
  }
}
