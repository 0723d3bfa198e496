/** What the program may do, the same whether it is run from source or compiled. */
export const PERMISSIONS = [
  "--no-prompt",
  "--allow-env",
  "--allow-ffi", // iroh's native addon
  "--allow-net",
  "--allow-read",
  "--allow-run=git",
  "--allow-sys",
  "--allow-write",
];
