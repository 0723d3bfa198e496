/** Runs a program of the system. @throws {Error} if it fails, after it has said why on the terminal. */
export async function run(
  program: string,
  args: string[],
  options: Pick<Deno.CommandOptions, "cwd" | "env"> = {},
): Promise<void> {
  const { code } = await new Deno.Command(program, { args, ...options }).spawn().status;
  if (code !== 0) throw new Error(`${program} failed with exit status ${code}`);
}
