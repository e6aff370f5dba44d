// Which engine this page has: a server, or everything in this browser.

import { serverEngine } from "./server_engine.js";

/** @returns {Promise<import("./types.js").Engine>} */
export async function chooseEngine() {
  return serverEngine;
}
