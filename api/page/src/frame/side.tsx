// The side bar: six words, the keys, the theme, and who is signed in.
import type { JSX } from "preact";
import { Icon } from "../parts/icon.tsx";
import { paletteOpen } from "../parts/palette.tsx";
import { Actor } from "../parts/values.tsx";
import { linkTo, place } from "../state/location.ts";
import { may, me, signOut } from "../state/session.ts";
import { switchTheme, theme } from "../state/theme.ts";
import { helpOpen } from "./help.tsx";
import { match, WORDS } from "./routes.ts";

export function Side(): JSX.Element {
  const under = match(place.value.path)?.route.under;
  return (
    <aside class="side">
      <a class="brand" href={linkTo("/runs")}>
        <svg viewBox="0 0 16 16" aria-hidden="true">
          <path d="M2 13.25h12" stroke="currentColor" stroke-width="1.5" fill="none" stroke-linecap="round" />
          <circle cx="3.5" cy="8.5" r="1.75" fill="currentColor" />
          <circle cx="8" cy="5.5" r="1.75" fill="currentColor" />
          <circle cx="12.5" cy="2.75" r="1.75" class="brand-now" />
        </svg>
        Modeltrail
      </a>
      <nav aria-label="Pages">
        {WORDS.filter(([path]) => match(path) !== null && (path !== "/sql" || may("sql"))).map(([path, word]) => (
          <a key={path} href={linkTo(path)} aria-current={under === path ? "page" : undefined}>{word}</a>
        ))}
      </nav>
      <div class="low">
        <button type="button" onClick={() => (paletteOpen.value = true)}><span>Go to</span><kbd>Ctrl K</kbd></button>
        <button type="button" onClick={() => (helpOpen.value = true)}><span>Keys</span><kbd>?</kbd></button>
        <button type="button" onClick={switchTheme}>
          <span>{theme() === "dark" ? "Light" : "Dark"} theme</span><Icon name="theme" />
        </button>
        <a href={linkTo("/access")} aria-current={under === "/access" ? "page" : undefined}>Access</a>
        <a href={linkTo("/docs")} aria-current={under === "/docs" ? "page" : undefined}>API</a>
        {me.value && (
          <div class="who">
            <Actor name={me.value.actor} verified={me.value.verified} />
            {me.value.auth && <button type="button" onClick={() => void signOut()}>Sign out</button>}
          </div>
        )}
      </div>
    </aside>
  );
}
