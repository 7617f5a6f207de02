// What differs between runs, and scales for the drawings that compare them.

export type Cell = string | number | boolean | null | undefined;

export interface Difference {
  /** The column of the query. */
  id: string;
  values: Cell[];
  /** True if not all values are the same. */
  differs: boolean;
  /** The place of the best value: of a metric whose name says whether more or less is better. */
  best: number | null;
}

const LESS = /loss|error|err\b|rmse|mse|mae|mape|perplexity|ppl|latency|time|ece|cost|_ms$|_s$|wer|cer|fid/i;
const MORE = /acc|auc|f1|precision|recall|score|r2|bleu|rouge|map\b|ap\b|iou|dice|reward|throughput|hit|ndcg|mrr/i;

/** Whether less or more of a metric is better, as its name says; null if it does not. */
export function better(key: string): "less" | "more" | null {
  if (LESS.test(key)) return "less";
  return MORE.test(key) ? "more" : null;
}

/** The rows of a comparison, from the columns of runs. */
export function differences(ids: readonly string[], runs: readonly Readonly<Record<string, Cell>>[]): Difference[] {
  return ids.flatMap((id) => {
    const values = runs.map((run) => run[id]);
    if (values.every((value) => value === null || value === undefined)) return [];
    const first = values[0] ?? null;
    const way = id.startsWith("metrics.") ? better(id) : null;
    const numbers = values.flatMap((value, i) => (typeof value === "number" ? [{ value, i }] : []));
    const best = way === null || numbers.length < 2 ? null
      : numbers.reduce((a, b) => ((way === "less" ? b.value < a.value : b.value > a.value) ? b : a)).i;
    const differs = values.some((value) => (value ?? null) !== first);
    return [{ id, values, differs, best: differs ? best : null }];
  });
}

/** An axis: numbers by size, anything else by name. */
export interface Axis {
  id: string;
  /** 0 at the bottom to 1 at the top; null for a run without a value. */
  at: (value: Cell) => number | null;
  marks: { at: number; text: string }[];
  log: boolean;
}

/** The number of a value; params are text, and often numbers. */
export function asNumber(value: Cell): number | null {
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (typeof value !== "string" || value.trim() === "") return null;
  const found = Number(value);
  return Number.isFinite(found) ? found : null;
}

/** The axis for some values. Numbers above zero that span more than two powers of ten stand by their logarithm. */
export function axis(id: string, values: readonly Cell[], format: (value: number) => string): Axis {
  const there = values.filter((value) => value !== null && value !== undefined);
  const numbers = there.map(asNumber);
  if (there.length > 0 && numbers.every((value) => value !== null)) {
    const [least, most] = [Math.min(...(numbers as number[])), Math.max(...(numbers as number[]))];
    const log = least > 0 && most / least >= 100;
    const of = (value: number): number => (log ? Math.log(value) : value);
    const span = of(most) - of(least);
    const place = (value: number): number => (span > 0 ? (of(value) - of(least)) / span : 0.5);
    const distinct = [...new Set(numbers as number[])].sort((a, b) => a - b);
    const back = (share: number): number => (log ? Math.exp(of(least) + share * span) : least + share * span);
    const marked = distinct.length <= 6 ? distinct : [0, 0.25, 0.5, 0.75, 1].map(back);
    return { id, log, at: (value) => { const found = asNumber(value); return found === null ? null : place(found); }, marks: apart(marked.map((value) => ({ at: place(value), text: format(value) }))) };
  }
  const names = [...new Set(there.map(String))].sort();
  const place = (name: string): number => (names.length > 1 ? names.indexOf(name) / (names.length - 1) : 0.5);
  return {
    id, log: false,
    at: (value) => (value === null || value === undefined ? null : place(String(value))),
    marks: apart(names.map((name) => ({ at: place(name), text: name }))),
  };
}

/** Marks that do not overlap: those at the ends, and between them those with room. */
function apart(marks: { at: number; text: string }[]): { at: number; text: string }[] {
  const room = 0.08;
  const end = marks[marks.length - 1];
  const kept: { at: number; text: string }[] = [];
  for (const mark of marks) {
    const last = kept[kept.length - 1];
    if (mark === end || ((!last || mark.at - last.at >= room) && end!.at - mark.at >= room)) kept.push(mark);
  }
  return kept;
}

/** Quartiles of a box: least, lower, middle, upper, greatest. */
export function box(values: readonly number[]): [number, number, number, number, number] | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => {
    const place = share * (sorted.length - 1);
    const low = Math.floor(place);
    return sorted[low]! + (sorted[Math.min(low + 1, sorted.length - 1)]! - sorted[low]!) * (place - low);
  };
  return [sorted[0]!, at(0.25), at(0.5), at(0.75), sorted[sorted.length - 1]!];
}
