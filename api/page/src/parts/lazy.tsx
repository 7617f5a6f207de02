// A part whose code is fetched when it is first shown.
import { useEffect, useState } from "preact/hooks";
import type { ComponentType, JSX } from "preact";
import { Skeleton } from "./states.tsx";

/** Make a component of one that is fetched; `rows` is the size of the grey lines until then. */
export function lazy<P extends object>(load: () => Promise<{ default: ComponentType<P> }>, rows = 6): (props: P) => JSX.Element {
  let fetched: ComponentType<P> | null = null;
  return function Lazy(props: P): JSX.Element {
    const [failed, setFailed] = useState(false);
    const [, setReady] = useState(fetched !== null);
    useEffect(() => {
      if (fetched) return;
      load().then((module) => { fetched = module.default; setReady(true); }, () => setFailed(true));
    }, []);
    if (failed) return <p class="note warn">This part could not be fetched. Load the page again.</p>;
    if (!fetched) return <Skeleton rows={rows} />;
    const Shown = fetched;
    return <Shown {...props} />;
  };
}

/** Charts, with uPlot and Arrow. */
export const LazyCharts = lazy(() => import("./charts.tsx"));
