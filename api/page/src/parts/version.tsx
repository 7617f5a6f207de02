// A version of a model, an alias and a stage, as they are shown everywhere.
import type { JSX } from "preact";
import { linkTo } from "../state/location.ts";

/** The colour of a version: it follows from its number, so neighbours differ. */
export function versionColour(version: number): string {
  return `c${((version - 1) % 8) + 1}`;
}

/** The address of a version's page. */
export function versionHref(model: string, version: number): string {
  return linkTo(`/models/${encodeURIComponent(model)}/versions/${version}`);
}

/** A version with its colour, as a link to its page. */
export function Version({ model, version, word = false, link = true }: {
  model: string;
  version: number;
  /** "version 2" instead of "2". */
  word?: boolean;
  link?: boolean;
}): JSX.Element {
  const text = word ? `version ${version}` : String(version);
  const kind = `v ${versionColour(version)} b5`;
  if (!link) return <span class={kind}>{text}</span>;
  return <a class={kind} href={versionHref(model, version)} aria-label={`version ${version} of ${model}`}>{text}</a>;
}

/** What a lane of the timeline is called: `@champion`, `Production`. */
export function laneName({ kind, name }: { kind: "alias" | "stage"; name: string }): string {
  return kind === "alias" ? `@${name}` : name;
}

/** An alias as a chip, a stage as its word. */
export function Holds({ kind, name }: { kind: "alias" | "stage"; name: string }): JSX.Element {
  if (kind === "stage") return <bdi>{name}</bdi>;
  return <span class="chip alias"><bdi class="cut">@{name}</bdi></span>;
}
