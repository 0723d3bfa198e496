/** A list of what is in the programs, in CycloneDX's format: npm packages, iroh's addons and Deno. */

import { Buffer } from "node:buffer";
import { PROGRAM } from "../../lib/console/program.ts";
import { installPackages, IROH, type Lock, type Package, readLock } from "../packages.ts";
import { TARGETS } from "../targets.ts";
import { METADATA } from "./metadata.ts";

/** License of the packages with iroh's addons, which are not installed here. */
const IROH_LICENSE = "MIT OR Apache-2.0";

/** Returns the list as JSON. @param deno Version of Deno that compiled the programs. */
export async function sbom(deno: string): Promise<string> {
  const { npm } = await readLock();
  const addons = Object.values(TARGETS).map(({ addon }) => `${IROH}-${addon}`);
  const installed = (await programPackages()).map(({ name, version, license }) =>
    component(name, version, license, npm)
  );
  const ofTargets = Object.keys(npm).map(nameAndVersion)
    .filter(([name]) => addons.includes(name))
    .map(([name, version]) => component(name, version, IROH_LICENSE, npm));
  const self = `pkg:github/${new URL(METADATA.homepage).pathname.slice(1)}@v${METADATA.version}`;
  const components = [
    {
      type: "application",
      name: "deno",
      version: deno,
      description: "the runtime in each program",
      licenses: [{ license: { id: "MIT" } }],
      purl: `pkg:github/denoland/deno@v${deno}`,
      "bom-ref": `pkg:github/denoland/deno@v${deno}`,
    },
    ...installed,
    ...ofTargets,
  ];
  const list = {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: {
        type: "application",
        name: PROGRAM,
        version: METADATA.version,
        description: METADATA.summary,
        licenses: [{ license: { id: METADATA.license } }],
        purl: self,
        "bom-ref": self,
      },
    },
    components,
    dependencies: [{ ref: self, dependsOn: components.map((component) => component["bom-ref"]) }],
  };
  return `${JSON.stringify(list, undefined, 2)}\n`;
}

/** Returns the packages of the program, without addon. */
async function programPackages(): Promise<Package[]> {
  const folder = await Deno.makeTempDir({ prefix: "sbom-" });
  try {
    return await installPackages(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Returns the component of a package. @param npm Packages of deno.lock, which has their integrity. */
function component(name: string, version: string, license: string, npm: Lock["npm"]) {
  const [, locked] = Object.entries(npm).find(([key]) =>
    String(nameAndVersion(key)) === String([name, version])
  )!;
  const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  const [algorithm, hash] = locked.integrity!.split("-", 2);
  return {
    type: "library",
    name,
    version,
    ...name.startsWith(`${IROH}-`) ? { description: "in the program of one target" } : {},
    licenses: [{ expression: license }],
    hashes: [{
      alg: algorithm!.replace(/^sha/, "SHA-"),
      content: Buffer.from(hash!, "base64").toString("hex"),
    }],
    purl,
    "bom-ref": purl,
  };
}

/** Takes a key of deno.lock apart, such as `@scope/name@1.2.3_peer@4.5.6`. */
function nameAndVersion(key: string): readonly [string, string] {
  const [, name, version] = /^(.[^@]*)@([^_]+)/.exec(key)!;
  return [name!, version!];
}
