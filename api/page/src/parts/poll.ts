// Ask again from time to time, while the page is in sight.
import { useEffect, useRef } from "preact/hooks";

/** Call `again` every `ms`; null stops. */
export function usePoll(again: () => void, ms: number | null): void {
  const latest = useRef(again);
  latest.current = again;
  useEffect(() => {
    if (ms === null) return;
    const timer = setInterval(() => { if (document.visibilityState === "visible") latest.current(); }, ms);
    return () => clearInterval(timer);
  }, [ms]);
}
