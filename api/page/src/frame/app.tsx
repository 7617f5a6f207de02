// The frame: side bar, the page of the address, messages, the list of keys, and sign-in when it is needed.
import { useEffect, useState } from "preact/hooks";
import type { ComponentType, JSX } from "preact";
import { reachable, signedOut } from "../client/api.ts";
import { Boundary } from "../parts/boundary.tsx";
import { Page } from "../parts/page.tsx";
import { addToPalette, Palette, paletteOpen } from "../parts/palette.tsx";
import { NothingFound, Skeleton } from "../parts/states.tsx";
import { Toasts } from "../parts/toast.tsx";
import { useKeys } from "../state/keys.ts";
import { go, linkTo, place } from "../state/location.ts";
import { isPast } from "../state/moment.ts";
import { Help, helpOpen } from "./help.tsx";
import type { Match, PageProps } from "./match.ts";
import { match, WORDS } from "./routes.ts";
import { Side } from "./side.tsx";
import { SignIn } from "./sign-in.tsx";
import { switchTheme } from "../state/theme.ts";

addToPalette([
  ...WORDS.filter(([path]) => match(path) !== null).map(([path, text]) => ({ text, hint: "page", href: path })),
  { text: "Access", hint: "page", href: "/access" },
  { text: "API reference", hint: "page", href: "/docs" },
  { text: "Light or dark theme", hint: "act", icon: "theme", run: switchTheme },
  { text: "Keys", hint: "act", run: () => (helpOpen.value = true) },
]);

export function App(): JSX.Element {
  useKeys("Everywhere", [
    { key: "Ctrl+k", what: "Go to anything", always: true, run: () => (paletteOpen.value = !paletteOpen.value) },
    { key: "?", what: "Show the keys", run: () => (helpOpen.value = true) },
    { key: "/", what: "Filter", run: () => document.querySelector<HTMLElement>("[data-filter]")?.focus() },
  ]);
  if (signedOut.value || place.value.path === "/sign-in") return <><SignIn /><Toasts /></>;
  return (
    <div class={isPast.value ? "app past" : "app"}>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); document.getElementById("content")?.focus(); }}>
        Skip to the page
      </a>
      <Side />
      <CurrentPage />
      {!reachable.value && <div class="away" role="status">The server cannot be reached. What is here may be old.</div>}
      <Toasts />
      {helpOpen.value && <Help close={() => (helpOpen.value = false)} />}
      {paletteOpen.value && <Palette />}
    </div>
  );
}

type Loaded = { match: Match; component: ComponentType<PageProps> };
const loaded = new Map<string, ComponentType<PageProps>>();

/** The page of the address. The one before stays until the code of the next is here. */
function CurrentPage(): JSX.Element {
  const found = match(place.value.path);
  const path = found?.route.path;
  const [last, setLast] = useState<Loaded | null>(null);
  const [failed, setFailed] = useState(false);
  const component = path === undefined ? undefined : loaded.get(path);
  useEffect(() => {
    setFailed(false);
    if (!found || component) return;
    let here = true;
    found.route.load().then(
      (module) => {
        loaded.set(found.route.path, module.default);
        if (here) setLast({ match: found, component: module.default });
      },
      () => here && setFailed(true),
    );
    return () => void (here = false);
  }, [path]);
  if (!found) {
    return (
      <Page crumbs={[{ text: "Not found" }]}>
        <NothingFound what="Nothing is at this address">
          The page <code>{place.value.path}</code> does not exist. <a class="a" href={linkTo("/runs")}>See all runs</a>.
        </NothingFound>
      </Page>
    );
  }
  if (failed) {
    return (
      <Page crumbs={[{ text: "Not loaded" }]}>
        <NothingFound what="This page could not be fetched" >
          The server cannot be reached, or has been updated since this page was opened.{" "}
          <button class="btn s" type="button" onClick={() => location.reload()}>Load it again</button>
        </NothingFound>
      </Page>
    );
  }
  const shown = component ? { match: found, component } : last;
  if (!shown) return <div class="main"><header class="bar" /><div class="body"><Skeleton /></div></div>;
  const { component: Shown } = shown;
  return <Boundary key={idOf(Shown)}><Shown params={shown.match.params} /></Boundary>;
}

const ids = new Map<ComponentType<PageProps>, number>();

/** A number for a page, the same at all its addresses: it then stays while one leads to another. */
function idOf(page: ComponentType<PageProps>): number {
  if (!ids.has(page)) ids.set(page, ids.size);
  return ids.get(page)!;
}

/** Let clicks on links to our own pages change the address without a new load. */
export function followLinks(): void {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>("a[href]") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    const path = link.pathname;
    if (match(path) === null || (link.hash && path === location.pathname && link.search === location.search)) return;
    event.preventDefault();
    go(path + link.search + link.hash);
  });
}
