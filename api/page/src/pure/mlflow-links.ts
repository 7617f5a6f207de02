// Links that MLflow's clients print, and that people have saved.

/** The page's address for a link that MLflow's clients print, such as `#/experiments/1/runs/ab12`. */
export function fromMlflow(hash: string): string | null {
  const words = hash.startsWith("#/") ? hash.slice(2).split("?")[0]!.split("/") : [];
  const [kind, name, what, item] = words;
  if (kind === "experiments" && name) {
    if (what === "runs" && item) return `/runs/${item}`;
    return `/runs?experiments=${name}`;
  }
  if (kind === "models") {
    if (name && what === "versions" && item) return `/models/${name}/versions/${item}`;
    return name ? `/models/${name}` : "/models";
  }
  return null;
}
