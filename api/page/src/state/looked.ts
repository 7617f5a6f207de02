// "Since you last looked", by page, kept in this browser.
import { useEffect, useState } from "preact/hooks";
import { look, parseVisits, type Place } from "../pure/looked.ts";
import { isPast } from "./moment.ts";

/** Where the visit before this one stood on a page; null at the first, and in the past. `offset`: the newest now shown. */
export function useLooked(page: string, offset: number | null): Place | null {
  const [before, setBefore] = useState<Place | null>(null);
  const past = isPast.value;
  useEffect(() => {
    if (offset === null || past) return setBefore(null);
    try {
      const key = `modeltrail.looked.${page}`;
      const visits = look(parseVisits(localStorage.getItem(key)), offset, Date.now());
      localStorage.setItem(key, JSON.stringify(visits));
      setBefore(visits.before);
    } catch {
      // storage is off or full: no line
    }
  }, [page, offset, past]);
  return before;
}
