// The moment that the page shows: now, or a time or position of the registry (`?at=registry:0:31`).
import { computed, effect } from "@preact/signals";
import { place, setQuery } from "./location.ts";

/** The moment in the address, as the API's `as_of` takes it; null is now. */
export const moment = computed(() => place.value.query.get("at"));

/** True if the page shows the past. Then nothing on it may write. */
export const isPast = computed(() => moment.value !== null);

/** Show another moment; null is now. */
export function showMoment(at: string | null): void {
  setQuery({ at });
}

effect(() => {
  if (isPast.value) document.documentElement.dataset.moment = "past";
  else delete document.documentElement.dataset.moment;
});
