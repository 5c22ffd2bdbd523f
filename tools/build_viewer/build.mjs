// Bundle the web viewer and three.js into one minified script: npm ci && npm run build
//
// Writes vp3d_cli/render/viewer/viewer.js and the licence of three.js beside it. The first line of the script carries
// the SHA-256 of the sources, by which tests/render/viewer/test_page.py sees that the bundle was built from them.

import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "..", "..", "vp3d_cli", "render", "viewer");

function hashOfSources() {
  const digest = createHash("sha256");
  for (const name of readdirSync(join(here, "src")).sort()) {
    digest.update(`${name}\0`).update(readFileSync(join(here, "src", name)));
  }
  return digest.update(readFileSync(join(here, "package.json"))).digest("hex");
}

const three = JSON.parse(readFileSync(join(here, "node_modules", "three", "package.json"), "utf8"));
const banner =
  `/* vp3d viewer, Apache-2.0; contains three.js ${three.version}, MIT, Copyright 2010-2026 three.js authors. ` +
  `Built by tools/build_viewer. Sources: ${hashOfSources()} */`;
const { outputFiles } = await build({
  entryPoints: [join(here, "src", "main.js")],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "ascii", // the page then works whatever encoding it is served with
  legalComments: "none", // the licence is in the banner and in the file beside the script
  banner: { js: banner },
  write: false,
});
const script = outputFiles[0].text;
// The script stands inside a <script> element, which these would end or change.
for (const forbidden of ["</script", "<!--", "<script"]) {
  if (script.toLowerCase().includes(forbidden)) {
    throw new Error(`the bundle contains ${forbidden}; esbuild should have escaped it`);
  }
}
writeFileSync(join(target, "viewer.js"), script);
copyFileSync(join(here, "node_modules", "three", "LICENSE"), join(target, "LICENSE-three.txt"));
console.log(`viewer.js: ${(script.length / 1024).toFixed(0)} KB, three.js ${three.version}`);
