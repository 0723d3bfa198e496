/** What a check has found. */
export interface Finding {
  readonly state: "ok" | "warning" | "failure";
  /** What was looked at, and how it is. */
  readonly what: string;
  /** What the user can do about it. */
  readonly todo?: string;
}

/** All is well. */
export function ok(what: string): Finding {
  return { state: "ok", what };
}

/** Something does not work that not everybody needs. */
export function warning(what: string, todo: string): Finding {
  return { state: "warning", what, todo };
}

/** This program cannot do what it is for. */
export function failure(what: string, todo: string): Finding {
  return { state: "failure", what, todo };
}
