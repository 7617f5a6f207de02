// Which page an address is of.
import type { ComponentType } from "preact";

export interface PageProps {
  /** The parts of the address that `:name` stands for, decoded. */
  params: Record<string, string>;
}

export interface Route {
  path: string;
  /** The entry of the side bar that is marked, by its address. */
  under: string;
  load: () => Promise<{ default: ComponentType<PageProps> }>;
}

export interface Match {
  route: Route;
  params: Record<string, string>;
}

/** The route of a path, and the parts that its pattern names. */
export function match(path: string, routes: readonly Route[]): Match | null {
  const words = path === "/" ? ["runs"] : path.split("/").slice(1);
  if (words.length > 1 && words[words.length - 1] === "") words.pop();
  for (const route of routes) {
    const pattern = route.path.split("/").slice(1);
    if (pattern.length !== words.length) continue;
    const params: Record<string, string> = {};
    const fits = pattern.every((part, i) => {
      if (!part.startsWith(":")) return part === words[i];
      try {
        params[part.slice(1)] = decodeURIComponent(words[i]!);
      } catch {
        return false; // half a percent escape
      }
      return true;
    });
    if (fits) return { route, params };
  }
  return null;
}
