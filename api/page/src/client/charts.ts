// Series for charts, from `POST /api/v1/charts`, as Arrow.
import { tableFromIPC } from "@uwdata/flechette";
import { ask } from "./api.ts";
import { charts, type Buckets, type ChartAbout, type ChartData } from "../pure/series.ts";

export interface ChartsQuery {
  runs: readonly string[];
  keys?: readonly string[];
  /** Those whose keys begin with `system/`, and no others. */
  system?: boolean;
  /** "step", "time", "relative", or the key of a metric. */
  x?: string;
  from?: number;
  to?: number;
  /** Wanted buckets. */
  width?: number;
  /** A time or a position: the points that were there. */
  as_of?: string;
}

const ARROW = "application/vnd.apache.arrow.stream";

/** Ask for charts; the answer has one for each key. */
export async function askCharts(body: ChartsQuery, signal?: AbortSignal): Promise<Map<string, ChartData>> {
  const answer = await ask("POST", "/api/v1/charts", { body, accept: ARROW, signal });
  const table = tableFromIPC(new Uint8Array(await answer.arrayBuffer()));
  const about = JSON.parse(table.schema.metadata?.get("modeltrail") ?? "{}") as ChartAbout;
  const names = ["series", "bucket", "lo", "hi", "last", "sum", "n", "nan", "pos_inf", "neg_inf"] as const;
  const columns = Object.fromEntries(names.map((name) => [name, table.getChild(name).toArray() as ArrayLike<number>]));
  return charts(about, columns as unknown as Buckets);
}
