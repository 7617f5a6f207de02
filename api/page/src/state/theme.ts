// Light or dark: of the system, unless the address (`?theme=dark`) or an earlier choice says otherwise.
import { effect, signal } from "@preact/signals";

export type Theme = "light" | "dark";
const KEY = "modeltrail.theme";

function chosen(): Theme | null {
  const text = new URLSearchParams(location.search).get("theme") ?? stored();
  return text === "light" || text === "dark" ? text : null;
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is off: the choice lasts as long as the page
  }
}

const system = matchMedia("(prefers-color-scheme: dark)");
const isSystemDark = signal(system.matches);
system.addEventListener("change", () => (isSystemDark.value = system.matches));
const choice = signal<Theme | null>(chosen());

/** The theme that is shown. Charts draw again when it changes. */
export function theme(): Theme {
  return choice.value ?? (isSystemDark.value ? "dark" : "light");
}

/** Switch between light and dark, and remember it. */
export function switchTheme(): void {
  choice.value = theme() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, choice.value);
  } catch {
    // see above
  }
}

effect(() => {
  if (choice.value === null) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice.value;
});
