// The files of a run: sizes, hashes, and a look into those that a browser can show without running them.
// Content comes by `GET /api/v1/runs/{run_id}/artifacts/{path}` and is only ever text or an image here: HTML is shown
// as its source, and the scripts of an SVG do not run in an image.
import { useEffect, useState } from "preact/hooks";
import type { JSX } from "preact";
import { ask, ApiError } from "../../client/api.ts";
import { Text } from "../../parts/values.tsx";
import { bytes } from "../../pure/format.ts";
import { kindOf, rowsOf } from "../../pure/files.ts";
import { place, setQuery } from "../../state/location.ts";

export interface Artifact {
  path: string;
  size_bytes: number | null;
  sha256: string | null;
}

const TEXT_BYTES = 256 * 1024;
const IMAGE_BYTES = 16 * 1024 * 1024;
const LISTED = 1_000;

export function Artifacts({ runId, artifacts }: { runId: string; artifacts: readonly Artifact[] }): JSX.Element {
  const chosen = place.value.query.get("file") ?? artifacts[0]?.path ?? null;
  const one = artifacts.find((artifact) => artifact.path === chosen);
  if (artifacts.length === 0) return <p class="q empty-tab">This run has no artifacts.</p>;
  return (
    <div class="files">
      <ul aria-label="Files">
        {artifacts.slice(0, LISTED).map((artifact) => (
          <li key={artifact.path}>
            <button type="button" aria-pressed={artifact.path === chosen} onClick={() => setQuery({ file: artifact.path }, { replace: true })}>
              <bdi class="cut" title={artifact.path}>{artifact.path}</bdi><span class="q">{artifact.size_bytes === null ? "" : bytes(artifact.size_bytes)}</span>
            </button>
          </li>
        ))}
        {artifacts.length > LISTED && <li class="q">{artifacts.length - LISTED} more</li>}
      </ul>
      {one && <Viewer key={one.path} runId={runId} artifact={one} />}
    </div>
  );
}

type Shown = { kind: "text" | "json" | "csv"; text: string; cut: boolean } | { kind: "image"; url: string } | { kind: "none" } | { kind: "failed"; message: string };

function Viewer({ runId, artifact }: { runId: string; artifact: Artifact }): JSX.Element {
  const [shown, setShown] = useState<Shown | null>(null);
  const url = `/api/v1/runs/${encodeURIComponent(runId)}/artifacts/${artifact.path.split("/").map(encodeURIComponent).join("/")}`;
  const kind = kindOf(artifact.path);
  useEffect(() => {
    const mine = new AbortController();
    let image: string | null = null;
    look(url, artifact, kind, mine.signal).then((found) => {
      if (found.kind === "image") image = found.url;
      if (!mine.signal.aborted) setShown(found);
    }, (error: unknown) => {
      if (!mine.signal.aborted) setShown({ kind: "failed", message: error instanceof ApiError ? error.message : String(error) });
    });
    return () => {
      mine.abort();
      if (image) URL.revokeObjectURL(image);
    };
  }, [url]);
  return (
    <section class="viewer" aria-label={artifact.path}>
      <div class="head">
        <h2 class="cut"><bdi>{artifact.path}</bdi></h2>
        {artifact.size_bytes !== null && <span class="q">{bytes(artifact.size_bytes)}</span>}
        <span class="gap" />
        <a class="btn s" href={url} download={artifact.path.split("/").pop()}>Download</a>
      </div>
      {artifact.sha256 && <p class="q s12">sha256 <span class="mono hash">{artifact.sha256}</span></p>}
      {shown === null ? <p class="q">Reading …</p>
        : shown.kind === "image" ? <img src={shown.url} alt={artifact.path} />
        : shown.kind === "failed" ? <p class="note bad">{shown.message}</p>
        : shown.kind === "none" ? <p class="q">There is no view of such a file here. Download it.</p>
        : shown.kind === "csv" ? <Csv text={shown.text} cut={shown.cut} separator={artifact.path.endsWith(".tsv") ? "\t" : ","} />
        : <><pre class="code" tabIndex={0}><bdi>{shown.text}</bdi></pre>{shown.cut && <p class="q s12">The first {bytes(TEXT_BYTES)}. Download the file to see all of it.</p>}</>}
    </section>
  );
}

async function look(url: string, artifact: Artifact, kind: ReturnType<typeof kindOf>, signal: AbortSignal): Promise<Shown> {
  if (kind === null) return { kind: "none" };
  if (typeof kind === "object") {
    if ((artifact.size_bytes ?? 0) > IMAGE_BYTES) return { kind: "none" };
    const answer = await ask("GET", url, { accept: "*/*", signal });
    return { kind: "image", url: URL.createObjectURL(new Blob([await answer.arrayBuffer()], { type: kind.image })) };
  }
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  const answer = await ask("GET", url, { accept: "*/*", signal: stop.signal });
  const reader = answer.body!.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let read = 0;
  let cut = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value.subarray(0, TEXT_BYTES - read), { stream: true });
    read += value.length;
    if (read < TEXT_BYTES) continue;
    cut = read > TEXT_BYTES || (artifact.size_bytes ?? 0) > TEXT_BYTES;
    await reader.cancel();
    break;
  }
  if (kind === "json" && !cut) {
    try {
      text = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // not JSON after all: as it is
    }
  }
  return { kind, text, cut };
}

function Csv({ text, cut, separator }: { text: string; cut: boolean; separator: string }): JSX.Element {
  const [head, ...rows] = rowsOf(text, separator, 201);
  return (
    <div class="chart-table csv" tabIndex={0} role="region" aria-label="The file as a table">
      <table class="tbl flush">
        <thead><tr>{head?.map((cell, i) => <th key={i}><Text>{cell}</Text></th>)}</tr></thead>
        <tbody>{rows.map((row, i) => <tr key={i}>{row.map((cell, j) => <td key={j}><Text>{cell}</Text></td>)}</tr>)}</tbody>
      </table>
      {(cut || rows.length === 200) && <p class="q s12">The first {rows.length} rows.</p>}
    </div>
  );
}
