// The pages: their addresses, and their code, which is fetched when a page is opened.
// A new page is one line here, a folder in src/pages/, and a line in PAGES of api/native/page.py.
import { match as matchIn, type Match, type Route } from "./match.ts";

export const ROUTES: readonly Route[] = [
  { path: "/runs", under: "/runs", load: () => import("../pages/runs/index.tsx") },
  { path: "/runs/:run", under: "/runs", load: () => import("../pages/run/index.tsx") },
  { path: "/compare", under: "/runs", load: () => import("../pages/compare/index.tsx") },
  { path: "/sql", under: "/sql", load: () => import("../pages/sql/index.tsx") },
  { path: "/status", under: "/status", load: () => import("../pages/status/index.tsx") },
  { path: "/access", under: "/access", load: () => import("../pages/access/index.tsx") },
  { path: "/docs", under: "/docs", load: () => import("../pages/docs/index.tsx") },
  { path: "/live", under: "/live", load: () => import("../pages/live/index.tsx") },
  { path: "/models", under: "/models", load: () => import("../pages/models/index.tsx") },
  { path: "/models/:model", under: "/models", load: () => import("../pages/model/index.tsx") },
  { path: "/models/:model/versions/:version", under: "/models", load: () => import("../pages/version/index.tsx") },
  { path: "/audit", under: "/audit", load: () => import("../pages/audit/index.tsx") },
  { path: "/audit/:offset", under: "/audit", load: () => import("../pages/audit/index.tsx") },
  { path: "/diff", under: "/audit", load: () => import("../pages/diff/index.tsx") },
  { path: "/incident", under: "/audit", load: () => import("../pages/incident/index.tsx") },
];

/** The side bar: shown are those that have a page. */
export const WORDS: readonly [path: string, word: string][] = [
  ["/runs", "Runs"],
  ["/models", "Models"],
  ["/audit", "Audit"],
  ["/sql", "SQL"],
  ["/live", "Live"],
  ["/status", "Status"],
];

/** The page of a path; null if there is none. */
export function match(path: string): Match | null {
  return matchIn(path, ROUTES);
}
