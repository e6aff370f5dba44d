// The thread in which the model runs: calls come in as {id, method, args}, results go out as {id, result} or {id, error}.

const loaded = import("./session.js");

self.addEventListener("message", async ({ data: { id, method, args } }) => {
  try {
    const { session } = await loaded;
    const result = await session[/** @type {keyof typeof session} */ (method)](.../** @type {[never, never, never, never, never]} */ (args));
    self.postMessage({ id, result }, { transfer: result instanceof ImageBitmap ? [result] : [] });
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
});
