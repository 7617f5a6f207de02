// The graph of where a version comes from, in columns from left to right.

export interface Node {
  id: string;
  /** Column, 0 is leftmost. */
  column: number;
  title: string;
  note: string;
  href?: string;
  /** The node that the graph is about. */
  here?: boolean;
  mono?: boolean;
}

export interface Placed extends Node {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Graph {
  nodes: Placed[];
  edges: { path: string; from: string; to: string }[];
  width: number;
  height: number;
}

const HEIGHT = 44;
const GAP = 16;
const CHANNEL = 44;

/** Place nodes in columns, each column centred, and draw edges between their sides. */
export function place(nodes: readonly Node[], edges: readonly (readonly [string, string])[], width: number, least = 132): Graph {
  const columns = [...new Set(nodes.map((node) => node.column))].sort((a, b) => a - b);
  const each = Math.min(200, Math.max(least, Math.floor((width - (columns.length - 1) * CHANNEL) / Math.max(columns.length, 1))));
  const tallest = Math.max(0, ...columns.map((column) => nodes.filter((node) => node.column === column).length));
  const height = Math.max(tallest * (HEIGHT + GAP) - GAP, 0);
  const placed = new Map<string, Placed>();
  columns.forEach((column, i) => {
    const here = nodes.filter((node) => node.column === column);
    const used = here.length * (HEIGHT + GAP) - GAP;
    here.forEach((node, row) => {
      placed.set(node.id, { ...node, x: i * (each + CHANNEL), y: (height - used) / 2 + row * (HEIGHT + GAP), width: each, height: HEIGHT });
    });
  });
  const drawn: Graph["edges"] = [];
  for (const [from, to] of edges) {
    const a = placed.get(from);
    const b = placed.get(to);
    if (!a || !b) continue;
    const [x1, y1, x2, y2] = [a.x + a.width, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2];
    const middle = (x1 + x2) / 2;
    drawn.push({ from, to, path: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
  }
  return { nodes: [...placed.values()], edges: drawn, width: columns.length * (each + CHANNEL) - CHANNEL, height };
}
