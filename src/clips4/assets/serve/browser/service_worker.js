// The service worker: keeps the files of this page, so that it opens without a network. `clips4 export --web` fills in
// the two constants; another version has another cache.

const VERSION = "";
/** @type {string[]} */
const PAGE = [];

/** @typedef {Event & {waitUntil: (done: Promise<unknown>) => void}} Phase */
/** @typedef {Phase & {request: Request, respondWith: (response: Promise<Response>) => void}} Fetch */

const cacheName = `clips4 ${VERSION}`;
const scope = new URL("./", location.href).href;

self.addEventListener("install", (event) =>
  /** @type {Phase} */ (event).waitUntil(caches.open(cacheName).then((cache) => cache.addAll(PAGE))),
);
self.addEventListener("activate", (event) => /** @type {Phase} */ (event).waitUntil(activated()));
self.addEventListener("fetch", (event) => {
  const { request } = /** @type {Fetch} */ (event);
  if (request.method === "GET" && request.url.startsWith(scope)) /** @type {Fetch} */ (event).respondWith(kept(request));
});

async function activated() {
  const others = (await caches.keys()).filter((each) => each.startsWith("clips4 ") && each !== cacheName);
  await Promise.all(others.map((each) => caches.delete(each)));
  await /** @type {any} */ (self).clients.claim();
}

/**
 * From the cache, else fetched and kept.
 * @param {Request} request
 */
async function kept(request) {
  const cache = await caches.open(cacheName);
  const found = await cache.match(request, { ignoreSearch: true });
  if (found) return found;
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response;
}
