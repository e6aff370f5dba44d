// The thread in which the model runs: calls come in as {id, part, method, args}, results go out as {id, result} or {id, error}.

const loaded = import("./session.js");

self.addEventListener("message", async ({ data: { id, part, method, args } }) => {
  try {
    const called = /** @type {Record<string, Record<string, (...args: unknown[]) => Promise<unknown>>>} */ (await loaded)[part];
    const result = await called[method](...args);
    self.postMessage({ id, result }, { transfer: result instanceof ImageBitmap ? [result] : [] });
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
});
