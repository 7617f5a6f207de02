// What the runs found have in common: experiments, status, completeness, who, and tags, with their numbers of runs.
import { useState } from "preact/hooks";
import type { JSX } from "preact";
import { facetValues, field, tokens, withCondition, withFacet } from "../../pure/filter.ts";
import { count } from "../../pure/format.ts";
import type { Keys } from "../../pure/runs-query.ts";

export type Facets = Record<string, { value: string | boolean | null; runs: number }[]>;

export const FACETS = ["experiment_name", "status", "complete", "user"] as const;
const TITLES: Record<string, string> = { experiment_name: "Experiment", status: "Status", complete: "Completeness", user: "Started by" };
const SHOWN = 8;

function words(name: string, value: string): string {
  if (name === "complete") return value === "true" ? "complete" : "incomplete";
  return name === "status" ? value.toLowerCase() : value;
}

export function FacetList({ facets, keys, filter, onFilter }: {
  facets: Facets;
  keys: Keys;
  filter: string;
  onFilter: (text: string) => void;
}): JSX.Element {
  const [all, setAll] = useState<ReadonlySet<string>>(new Set());
  const tagged = (key: string): string => `${field("tags", key)} IS NOT NULL`;
  const used = new Set(tokens(filter).map((token) => token.text));
  const tags = keys.tags.filter((tag) => !tag.key.startsWith("mlflow."));
  return (
    <aside class="facets" aria-label="Facets">
      {FACETS.map((name) => {
        const chosen = facetValues(filter, name);
        const values = (facets[name] ?? []).filter((one) => one.value !== null);
        if (values.length === 0) return null;
        const shown = all.has(name) ? values : values.filter((one, i) => i < SHOWN || chosen.includes(String(one.value)));
        return (
          <section key={name}>
            <h2>{TITLES[name]}<span>runs</span></h2>
            <ul>
              {shown.map(({ value, runs }) => {
                const text = String(value);
                const on = chosen.includes(text);
                return (
                  <li key={text} class={on ? "on" : ""}>
                    <label>
                      <input
                        type="checkbox" checked={on}
                        onChange={() => onFilter(withFacet(filter, name, on ? chosen.filter((one) => one !== text) : [...chosen, text]))}
                      />
                      <bdi class="cut" title={text}>{words(name, text)}</bdi>
                      <span>{count(runs)}</span>
                    </label>
                  </li>
                );
              })}
            </ul>
            {values.length > shown.length && (
              <button type="button" class="more" onClick={() => setAll(new Set([...all, name]))}>{values.length - shown.length} more</button>
            )}
          </section>
        );
      })}
      {tags.length > 0 && (
        <section>
          <h2>Tags<span>runs</span></h2>
          <ul>
            {tags.slice(0, SHOWN).map(({ key, runs }) => (
              <li key={key} class={used.has(field("tags", key)) ? "on" : ""}>
                <button type="button" class="facet-tag" title={`Runs with the tag ${key}`} onClick={() => onFilter(withCondition(filter, tagged(key)))}>
                  <bdi class="cut">{key}</bdi><span>{count(runs)}</span>
                </button>
              </li>
            ))}
          </ul>
        </section>
      )}
    </aside>
  );
}
