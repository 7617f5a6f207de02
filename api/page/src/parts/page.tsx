// The page around its content: breadcrumbs and acts above, the moment below them, then what scrolls.
import { useEffect } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";
import { Boundary } from "./boundary.tsx";
import { linkTo } from "../state/location.ts";
import { isPast } from "../state/moment.ts";
import { TimeBar } from "./time-bar.tsx";

export interface Crumb {
  text: string;
  /** Without it the crumb is where we are. */
  href?: string;
}

export function Page({ crumbs, acts, children, fill = false }: {
  /** The last one is this page; it is the document's title too. */
  crumbs: readonly [...Crumb[], Crumb];
  /** Buttons on the right. */
  acts?: ComponentChildren;
  children: ComponentChildren;
  /** A working page fills the height with parts that scroll on their own; a reading page is one column. */
  fill?: boolean;
}): JSX.Element {
  const title = crumbs[crumbs.length - 1]!.text;
  useEffect(() => void (document.title = `${title} · Modeltrail`), [title]);
  return (
    <div class="main">
      <header class="bar">
        <nav aria-label="Breadcrumbs">
          <ol class="crumbs">
            {crumbs.map((crumb) => (
              <li key={crumb.text}>
                {crumb.href
                  ? <a href={linkTo(crumb.href)}><bdi>{crumb.text}</bdi></a>
                  : <span aria-current="page"><bdi>{crumb.text}</bdi></span>}
              </li>
            ))}
          </ol>
        </nav>
        <span class="gap" />
        {acts}
      </header>
      <TimeBar />
      <main class={fill ? "fill" : "scroll"} id="content" tabIndex={-1}>
        {fill && <h1 class="sr">{title}</h1>}
        <Boundary>{fill ? children : <div class="body">{children}</div>}</Boundary>
      </main>
    </div>
  );
}

/** Shows acts that write: not in the past, where nothing writes. */
export function Writes({ children }: { children: ComponentChildren }): JSX.Element | null {
  return isPast.value ? null : <>{children}</>;
}
