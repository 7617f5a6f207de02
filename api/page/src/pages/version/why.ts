// The answer of `GET …/versions/{version}/why`, and the graph that is drawn of it.
import { bytes, count } from "../../pure/format.ts";
import type { Node } from "../../pure/lineage.ts";

export interface Hold {
  kind: "alias" | "stage";
  name: string;
  since: string;
  from_offset: number;
  set_by: string | null;
  verified: boolean | null;
  reason: string | null;
  before: { version: number; held_s: number | null } | null;
}

export interface Asked {
  log_offset: number;
  appended_at: string;
  actor: string | null;
  verified: boolean | null;
  version: number | null;
  reason: string | null;
  message?: string | null;
  code?: string | null;
  alias?: string | null;
  stage?: string | null;
  by_ms?: number;
  by_offsets?: number;
}

export interface Why {
  model: string;
  version: number;
  created_at: string;
  created_by: string | null;
  holds: Hold[];
  sentence: string;
  evidence: { kind: string; key: string; value: string; position: string | null; run_id: string | null; against: { version: number; value: string } | null }[];
  race: { expected: number | string; won: Asked; lost: Asked[] } | null;
  refused: Asked[];
  source: string | null;
  run: { readable: boolean; run_id?: string; name?: string | null; experiment_name?: string; status?: string; duration_s?: number | null; git_commit?: string | null; git_branch?: string | null; git_dirty?: boolean | null; entry_point?: string | null; events_missing?: number } | null;
  commit: string | null;
  datasets: { name: string; digest: string; source: string | null }[];
  artifacts: { path: string; size_bytes: number; sha256: string | null }[];
  lineage: { model_id: string | null; run_link: string | null; siblings: { model: string; version: number }[] };
  proof: { hash: string | null; verified_to: number | null; contradiction: string | null; checkpoint: { offset: number; signed_at: string; covers: boolean } | null; signed_by: string | null };
  comments: { comment: string; added_at: string; added_by: string | null; verified: boolean | null; log_offset: number }[];
  tags: Record<string, string>;
  description: string | null;
}

/** The nodes and edges from data and code, over the run and its files, to what the version holds. */
export function graph(why: Why, linkTo: (path: string) => string): { nodes: Node[]; edges: [string, string][] } {
  const nodes: Node[] = [];
  const edges: [string, string][] = [];
  const run = why.run;
  const files = why.artifacts.length > 0 ? "files" : null;
  const last = files ?? (run ? "run" : null);
  why.datasets.slice(0, 4).forEach((data, i) => {
    nodes.push({ id: `data${i}`, column: 0, title: data.name, note: `data ${data.digest.slice(0, 12)}` });
    edges.push([`data${i}`, "run"]);
  });
  if (why.commit) {
    const state = run?.git_dirty ? "with changes" : "clean";
    nodes.push({ id: "commit", column: 0, title: `commit ${why.commit.slice(0, 7)}`, note: [run?.git_branch, state].filter(Boolean).join(", ") });
    edges.push(["commit", "run"]);
  }
  if (run) {
    const missing = run.events_missing ? `${count(run.events_missing)} events missing` : run.status?.toLowerCase() ?? "";
    nodes.push(run.run_id
      ? { id: "run", column: 1, title: `run ${run.name ?? run.run_id.slice(0, 8)}`, note: missing, href: linkTo(`/runs/${run.run_id}`) }
      : { id: "run", column: 1, title: "a run", note: "that you may not read" });
  }
  if (files) {
    const size = why.artifacts.reduce((sum, file) => sum + file.size_bytes, 0);
    nodes.push({ id: "files", column: 2, title: `${why.artifacts.length} file${why.artifacts.length === 1 ? "" : "s"}, ${bytes(size)}`, note: why.artifacts[0]!.sha256 ? `sha256 ${why.artifacts[0]!.sha256.slice(0, 8)}…` : "no hash recorded" });
    edges.push(["run", "files"]);
  }
  nodes.push({ id: "version", column: 3, title: `version ${why.version}`, note: `of ${why.model}`, here: true });
  if (last) edges.push([last, "version"]);
  why.holds.slice(0, 5).forEach((hold, i) => {
    nodes.push({ id: `hold${i}`, column: 4, title: hold.kind === "alias" ? `@${hold.name}` : hold.name, note: `offset ${count(hold.from_offset)}`, href: linkTo(`/audit/${hold.from_offset}`) });
    edges.push(["version", `hold${i}`]);
  });
  return { nodes, edges };
}
