// Bundle the page into the folder that is named: hashed files in assets/, each also compressed, and
// one HTML file per page, which lets the browser fetch that page's code together with the frame's.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, rmSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = import.meta.dirname;
const out = process.argv[2];
if (!out) throw new Error("usage: node build.mjs FOLDER");
const assets = join(out, "assets");
rmSync(out, { recursive: true, force: true });
mkdirSync(assets, { recursive: true });

// What pages share is one file, not one for each set of pages that happens to use a part. Charts stay apart: they
// bring uPlot and Arrow.
const apart = /(charts?|series)\.tsx?$/;
const shared = ["parts", "state", "client", "pure"]
  .flatMap((folder) => readdirSync(join(here, "src", folder)).map((name) => `../../${folder}/${name}`))
  .filter((path) => !apart.test(path))
  .map((path) => `import "${path}";\n`)
  .join("");
const sharing = {
  name: "sharing",
  setup: (builder) => builder.onLoad({ filter: /src\/pages\/[\w-]+\/index\.tsx$/ }, ({ path }) => ({ contents: shared + readFileSync(path, "utf8"), loader: "tsx" })),
};

const { metafile } = await build({
  plugins: [sharing],
  absWorkingDir: here,
  entryPoints: { main: "src/main.tsx" },
  bundle: true,
  splitting: true,
  format: "esm",
  outdir: assets,
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  jsx: "automatic",
  jsxImportSource: "preact",
  target: ["chrome123", "firefox120", "safari17.5"], // light-dark()
  loader: { ".svg": "file" },
  minify: true,
  metafile: true,
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
});

// What each output imports at once, and which source it is the entry of.
const outputs = Object.entries(metafile.outputs).map(([path, made]) => ({
  name: basename(path),
  entry: made.entryPoint,
  css: made.cssBundle && basename(made.cssBundle),
  imports: made.imports.filter((i) => i.kind === "import-statement").map((i) => basename(i.path)),
}));
const byName = new Map(outputs.map((output) => [output.name, output]));
const main = outputs.find((output) => output.entry === "src/main.tsx");

function withImports(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  for (const next of byName.get(name)?.imports ?? []) withImports(next, found);
  return found;
}

// One style sheet for all pages: what a page brings is small, and a page that is opened by a click needs it too.
const css = outputs.map((output) => output.css).filter(Boolean);
const styles = css.map((name) => readFileSync(join(assets, name), "utf8")).join("");
const sheet = `page-${createHash("sha256").update(styles).digest("hex").slice(0, 8)}.css`;
for (const name of css) rmSync(join(assets, name));
writeFileSync(join(assets, sheet), styles);

for (const name of readdirSync(assets)) {
  const bytes = readFileSync(join(assets, name));
  writeFileSync(join(assets, `${name}.gz`), gzipSync(bytes, { level: 9 }));
  const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  writeFileSync(join(assets, `${name}.br`), brotliCompressSync(bytes, { params: quality }));
}

const template = readFileSync(join(here, "index.html"), "utf8");
function html(page) {
  const wanted = withImports(main.name);
  if (page) withImports(page.name, wanted);
  wanted.delete(main.name);
  const lines = [
    `<link rel="stylesheet" href="/assets/${sheet}">`,
    `<script type="module" blocking="render" src="/assets/${main.name}"></script>`,
    ...[...wanted].map((name) => `<link rel="modulepreload" href="/assets/${name}">`),
  ];
  return template.replace("<!-- assets -->", lines.join("\n"));
}
for (const output of outputs) {
  const page = output.entry?.match(/^src\/pages\/([\w-]+)\/index\.tsx$/)?.[1];
  if (page) writeFileSync(join(out, `${page}.html`), html(output));
}
writeFileSync(join(out, "index.html"), html()); // last: its time says when all was built
