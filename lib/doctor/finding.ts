/** The result of a check. */
export interface Finding {
  readonly state: "ok" | "warning" | "failure";
  /** What was checked, and its state. */
  readonly what: string;
  /** What the user can do. */
  readonly todo?: string;
}

/** Returns the finding that all is well. */
export function ok(what: string): Finding {
  return { state: "ok", what };
}

/** Returns the finding that something fails which only some users need. */
export function warning(what: string, todo: string): Finding {
  return { state: "warning", what, todo };
}

/** Returns the finding that this program cannot connect or serve. */
export function failure(what: string, todo: string): Finding {
  return { state: "failure", what, todo };
}
