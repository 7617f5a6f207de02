// The address is the state: filter, columns, zoom, selection and moment are read from it and written to it.
import { signal } from "@preact/signals";
import { fromMlflow } from "../pure/mlflow-links.ts";

export interface Place {
  readonly path: string;
  readonly query: URLSearchParams;
}

function read(): Place {
  const moved = fromMlflow(location.hash);
  if (moved !== null) history.replaceState(null, "", moved);
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

/** Where the page is. Read `place.value` in a component to follow it. */
export const place = signal<Place>({ path: "/", query: new URLSearchParams() });

/** Begin to follow the address. */
export function followAddress(): void {
  place.value = read();
  addEventListener("popstate", () => (place.value = read()));
  addEventListener("hashchange", () => (place.value = read()));
}

/** Go to an address of the page. */
export function go(href: string, { replace = false } = {}): void {
  if (replace) history.replaceState(null, "", href);
  else history.pushState(null, "", href);
  place.value = read();
}

/** Change parts of the query; null removes one. Back returns to the state before, unless `replace`. */
export function setQuery(changes: Record<string, string | null>, options = { replace: false }): void {
  const query = new URLSearchParams(place.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  const text = readable(query);
  go(place.value.path + (text && `?${text}`), options);
}

/** The address of a page, at the same moment as this one. */
export function linkTo(path: string, query: Record<string, string | null | undefined> = {}): string {
  const [bare = "", own] = path.split("?");
  const found = new URLSearchParams(own);
  for (const [name, value] of Object.entries(query)) if (value != null) found.set(name, value);
  const at = place.value.query.get("at");
  if (at !== null && !found.has("at")) found.set("at", at);
  const text = readable(found);
  return bare + (text && `?${text}`);
}

/** A query as people read and share it: `,`, `:`, `/` and `@` need no escape in it. */
function readable(query: URLSearchParams): string {
  return query.toString().replace(/%(2C|3A|2F|40)/g, (code) => decodeURIComponent(code));
}
