import assert from "node:assert/strict";
import { roundTrips } from "./ping.ts";

Deno.test("roundTrips(): the least, the median and the most, whatever their order", () => {
  const summaries: [times: number[], summary: string][] = [
    [[7], "least 7.0 ms, median 7.0 ms, most 7.0 ms"],
    [[9, 100, 10], "least 9.0 ms, median 10.0 ms, most 100.0 ms"],
    [[5, 1, 4, 2, 30.04], "least 1.0 ms, median 4.0 ms, most 30.0 ms"],
    [[2, 1], "least 1.0 ms, median 2.0 ms, most 2.0 ms"],
  ];
  for (const [times, summary] of summaries) {
    assert.equal(roundTrips(times), `round trip: ${summary}`);
  }
});
