// Evidence of a decision, and two runs side by side: which is better, and what differs.

/** Whether a metric is better when it is higher or lower, as far as its name says. */
export function betterIs(key: string): "higher" | "lower" | null {
  const words = key.toLowerCase().split(/[^a-z0-9]+/);
  const has = (...some: string[]): boolean => words.some((word) => some.includes(word));
  if (has("loss", "error", "err", "rmse", "mae", "mse", "mape", "ece", "fpr", "fnr", "latency", "perplexity", "ppl", "wer", "cer", "nll", "brier", "logloss", "ms", "s")) return "lower";
  if (has("accuracy", "acc", "auc", "f1", "r2", "precision", "recall", "ap", "map", "score", "bleu", "rouge", "iou", "ndcg", "mrr", "hits", "dice", "psnr", "ssim", "reward", "throughput", "top1", "top5")) return "higher";
  return null;
}

export interface Weighed {
  value: number;
  against: number | null;
  difference: number | null;
  /** From -1, much worse, to 1, much better; null if that cannot be said. */
  better: number | null;
}

/** A value beside that of another. */
export function weigh(key: string, value: number, against: number | null): Weighed {
  if (against === null || !Number.isFinite(value) || !Number.isFinite(against)) return { value, against, difference: null, better: null };
  const difference = value - against;
  const direction = betterIs(key);
  const size = Math.max(Math.abs(value), Math.abs(against));
  // The root shows small differences, too; the number beside it is exact.
  const share = size === 0 ? 0 : Math.sign(difference) * Math.sqrt(Math.min(Math.abs(difference) / size, 1));
  return { value, against, difference, better: direction === null ? null : direction === "higher" ? share : -share };
}

export interface RunValues {
  params: Record<string, string>;
  metrics: { key: string; value: number | string | null }[];
}

export interface Differing {
  kind: "param" | "metric";
  key: string;
  a: string | null;
  b: string | null;
}

/** The params and metrics in which two runs differ. */
export function differing(a: RunValues, b: RunValues): Differing[] {
  const found: Differing[] = [];
  const compare = (kind: Differing["kind"], left: Map<string, string>, right: Map<string, string>): void => {
    for (const key of [...new Set([...left.keys(), ...right.keys()])].sort()) {
      const [one, other] = [left.get(key) ?? null, right.get(key) ?? null];
      if (one !== other) found.push({ kind, key, a: one, b: other });
    }
  };
  compare("param", new Map(Object.entries(a.params)), new Map(Object.entries(b.params)));
  const metrics = (run: RunValues): Map<string, string> => new Map(run.metrics.map(({ key, value }) => [key, String(value)]));
  compare("metric", metrics(a), metrics(b));
  return found;
}
