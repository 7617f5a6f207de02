// What a page shows when there is nothing to show: empty, nothing found, an error, and the time before.
import { useEffect, useState } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";
import type { ApiError } from "../client/api.ts";
import { CopyButton } from "./copy.tsx";
import { Icon } from "./icon.tsx";
import type { Answer } from "./answer.ts";

/** What belongs here, and the lines that make it. */
export function Empty({ title, children, code }: { title: string; children?: ComponentChildren; code?: string }): JSX.Element {
  return (
    <div class="state">
      <h2>{title}</h2>
      {children && <p class="q2">{children}</p>}
      {code && (
        <div class="code-box">
          <pre class="code">{code}</pre>
          <CopyButton text={code} />
        </div>
      )}
    </div>
  );
}

/** Nothing matches: which condition excludes everything, and one click to drop it. */
export function NothingFound({ what, drop, children }: { what: string; drop?: () => void; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="state">
      <h2>{what}</h2>
      {children && <p class="q2">{children}</p>}
      {drop && <button class="btn" type="button" onClick={drop}>Drop the filter</button>}
    </div>
  );
}

/** What happened, the server's code, what to do, and the request's id. */
export function Failed({ error, again, at }: { error: ApiError; again?: () => void; at?: Date | null }): JSX.Element {
  return (
    <div class="note bad failed" role="alert">
      <p><Icon name="warn" /> <b>{sentence(error.message)}</b></p>
      <p class="q2">
        {error.status > 0 && <><code>{error.status} {error.code}</code> </>}
        {error.requestId && <>request <code>{error.requestId}</code> </>}
        {at && <>· what is shown is as of <time dateTime={at.toISOString()}>{at.toLocaleTimeString("en-GB")}</time></>}
      </p>
      {again && <button class="btn s" type="button" onClick={again}><Icon name="again" />Try again</button>}
    </div>
  );
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Grey lines of the true size, from 300 ms on. */
export function Skeleton({ rows = 8 }: { rows?: number }): JSX.Element {
  const late = useLate();
  return (
    <div class="skeleton" role="status" aria-busy="true" aria-label="Loading">
      {late && Array.from({ length: rows }, (_, i) => <div key={i} class="skel-row"><span class={`skel w${i % 4}`} /></div>)}
    </div>
  );
}

/** True from 300 ms after the component appeared: what is quick needs no sign of waiting. */
export function useLate(ms = 300): boolean {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), ms);
    return () => clearTimeout(timer);
  }, []);
  return late;
}

/** The data of an answer once it is here; before that a skeleton; an error above what was shown last. */
export function Loaded<T>({ answer, children, rows }: {
  answer: Answer<T>;
  children: (data: T) => ComponentChildren;
  rows?: number;
}): JSX.Element {
  return (
    <>
      {answer.error && <Failed error={answer.error} again={answer.again} at={answer.at} />}
      {answer.data !== null ? children(answer.data) : !answer.error && <Skeleton rows={rows ?? 8} />}
    </>
  );
}
