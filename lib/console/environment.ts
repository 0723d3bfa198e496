/**
 * Reads environment variables. No other module does, since Deno throws if a value is not UTF-8, and the
 * environment of a user may have such a value.
 */

/** Returns the value of an environment variable. */
export type Environment = (name: string) => string | undefined;

/** Returns the value of a variable; undefined if it is not set. What is not UTF-8 in it becomes U+FFFD. */
export function variable(name: string): string | undefined {
  try {
    return Deno.env.get(name);
  } catch {
    return undecoded(name) ?? "\ufffd"; // it is set, so a setting is refused and not ignored
  }
}

/** Returns the value that this process was started with (Linux, proc(5)). */
function undecoded(name: string): string | undefined {
  try {
    const entries = new TextDecoder().decode(Deno.readFileSync("/proc/self/environ")).split("\0");
    return entries.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
  } catch {
    return undefined; // there is no /proc
  }
}

/** Returns all variables; undefined if one is not UTF-8. */
export function allVariables(): Record<string, string> | undefined {
  try {
    return Deno.env.toObject();
  } catch {
    return undefined;
  }
}
