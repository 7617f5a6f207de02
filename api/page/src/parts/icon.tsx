// An icon, in the colour of the text beside it. Its shape is in styles/icons.css.
import type { JSX } from "preact";

export type IconName =
  | "again" | "back" | "bolt" | "check" | "clock" | "cols" | "copy" | "cross" | "down" | "filter" | "heart" | "letter"
  | "link" | "load" | "more" | "pin" | "plus" | "right" | "seal" | "search" | "stop" | "theme" | "tree" | "up" | "warn";

export function Icon({ name, title }: { name: IconName; title?: string }): JSX.Element {
  if (title) return <span class={`i i-${name}`} role="img" aria-label={title} title={title} />;
  return <span class={`i i-${name}`} aria-hidden="true" />;
}
