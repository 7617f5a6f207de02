// The time bar, on every page: the moment that is shown.
import type { JSX } from "preact";
import { moment, showMoment } from "../state/moment.ts";
import { useKeys } from "../state/keys.ts";
import { position } from "../pure/format.ts";

export function TimeBar(): JSX.Element | null {
  const at = moment.value;
  useKeys("Time", at === null ? [] : [{ key: "Escape", what: "Back to now", run: () => showMoment(null) }]);
  if (at === null) return null;
  return (
    <div class="time">
      <span class="when">You see <b>{position(at)}</b></span>
      <span class="gap" />
      <button class="btn s go" type="button" onClick={() => showMoment(null)}>Back to now</button>
    </div>
  );
}
