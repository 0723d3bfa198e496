/** The texts of the licenses of all that is in a release, as those licenses demand. */

import { dirname, join } from "node:path";
import config from "../deno.json" with { type: "json" };
import { installPackages } from "./packages.ts";

/** Version of iroh-js. Its repository has a tag for each. */
const IROH_JS = config.imports["@number0/iroh"].split("@").at(-1);

/** Works in a compiled program that are no packages, or whose packages lack a license text. */
const OTHERS = [
  {
    name: "Deno, https://github.com/denoland/deno",
    license: "MIT",
    parts:
      `Its Rust crates, and V8: https://github.com/denoland/deno/blob/v${Deno.version.deno}/Cargo.lock`,
    copyright: "Copyright 2018-2026 the Deno authors",
  },
  {
    name: "iroh and iroh-js (@number0/iroh), https://github.com/n0-computer/iroh",
    license: "MIT OR Apache-2.0, here under MIT",
    parts: `Its Rust crates: https://github.com/n0-computer/iroh-ffi/blob/v${IROH_JS}/Cargo.lock`,
    copyright: "Copyright 2025 N0, INC.",
  },
];
/** Start of the names of packages that {@linkcode OTHERS} covers. */
const OF_OTHERS = "@number0/";
const LICENSE_FILE = /^(licen[cs]e|copying|notice)/i;
const RULE = "-".repeat(72);

/** Returns the texts, one after the other. @throws If a package has none. */
export async function thirdPartyLicenses(): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "licenses-" });
  try {
    const mit = await mitText();
    const texts = OTHERS.map(({ name, license, parts, copyright }) =>
      section(`${name}, ${license}`, `${copyright}\n\n${mit}\n${parts}`)
    );
    for (const { name, version, license, folder: path } of await installPackages(folder)) {
      if (name.startsWith(OF_OTHERS)) continue;
      texts.push(section(`${name} ${version}, ${license}`, await licenseIn(path)));
    }
    return `git-annex-p2p-iroh contains the work of others, under these licenses.\n${
      texts.join("")
    }`;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function section(title: string, text: string): string {
  return `\n${RULE}\n${title}\n${RULE}\n\n${text.replaceAll("\r\n", "\n").trim()}\n`;
}

/** Returns the MIT license without its copyright line, from this program's license. */
async function mitText(): Promise<string> {
  const license = await Deno.readTextFile(join(dirname(import.meta.dirname!), "LICENSE"));
  return license.slice(license.indexOf("Permission is hereby granted"));
}

async function licenseIn(folder: string): Promise<string> {
  const texts: string[] = [];
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile && LICENSE_FILE.test(name)) texts.push(await Deno.readTextFile(join(folder, name)));
  }
  if (texts.length === 0) throw new Error(`no license in ${folder}`);
  return texts.join("\n");
}
