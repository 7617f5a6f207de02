// A field for a moment: a time, a position, "now", "3 h ago". What it cannot read it says, and keeps.
import type { JSX } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { fieldText, parseMoment } from "../pure/moments.ts";

/** A moment as people read it in a field: its time in their zone, or its position. */
function shown(at: string | null, empty: string): string {
  if (at === null) return empty;
  const time = at.startsWith("registry:") ? NaN : Date.parse(at);
  return Number.isNaN(time) ? at : fieldText(new Date(time));
}

export function MomentField({ label, at, empty = "now", change }: {
  label: string;
  /** As the API takes it; null is `empty`. */
  at: string | null;
  /** What an empty field means. */
  empty?: string;
  change: (at: string | null) => void;
}): JSX.Element {
  const id = useId();
  const [text, setText] = useState(shown(at, empty));
  const [wrong, setWrong] = useState(false);
  useEffect(() => { setText(shown(at, empty)); setWrong(false); }, [at]);
  function apply(): void {
    if (text === shown(at, empty)) return setWrong(false);
    const found = parseMoment(text);
    setWrong(found === null);
    if (found) change(found.as_of);
  }
  return (
    <div class="moment-field">
      <label class="l" for={id}>{label}</label>
      <input
        class="field" id={id} value={text} aria-invalid={wrong} aria-describedby={wrong ? `${id}-wrong` : undefined} spellcheck={false} autocomplete="off"
        onInput={(event) => setText(event.currentTarget.value)} onBlur={apply}
        onKeyDown={(event) => { if (event.key === "Enter") { event.preventDefault(); apply(); } }}
      />
      {wrong && <p class="s12 st bad" id={`${id}-wrong`} role="alert">Write a time, as in 2026-03-12 14:02, a position, as in 31, or 3 h ago.</p>}
    </div>
  );
}
