// The page: images, classes, clicks. What a model does is behind an engine.

import { ClassList } from "./classes.js";
import { combobox } from "./combobox.js";
import { context, drawCrop, markPointer, markSegments, markSimilarity, painted, pixelsOf } from "./drawing.js";
import { button, byId, keepFile, make } from "./elements.js";
import { openVideo } from "./video.js";

/** @typedef {import("./types.js").ImageFacts} ImageFacts */
/** @typedef {import("./types.js").Labels} Labels */
/** @typedef {import("./types.js").Segments} Segments */
/** @typedef {import("./types.js").SimilarityMap} SimilarityMap */
/**
 * @typedef {object} Shown
 * @property {ImageFacts} facts
 * @property {ImageBitmap} bitmap
 * @property {ImageData} pixels
 * @property {Segments | null} segments null until they are found
 * @property {Promise<Segments>} finding
 * @property {Labels | null} labels null until they are predicted for the current classes
 * @property {Labels | null} byTeacher
 */

const CLASS_SET = /\.safetensors$/i;
const VIDEO = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|wmv|flv|ts)$/i;
const HOVER_DELAY = 70;

// on a server, or in this browser: a page says which, see `clips4 serve` and `clips4 export --web`
const engine =
  document.documentElement.dataset.engine === "browser"
    ? (await import("./browser/engine.js")).browserEngine
    : (await import("./server_engine.js")).serverEngine;
const about = await engine.about();

/** @type {Map<string, Shown>} */
const images = new Map();
/** @type {Shown | null} */
let current = null;
/** @type {({kind: "example"} | {kind: "edit", image: string})[]} */
const done = [];
/** @type {SimilarityMap[]} */
let maps = [];
let pointer = { x: 0, y: 0, shown: false };
/** @type {Set<number>} */
let chosen = new Set();
let painting = false;
let generation = 0;

const canvas = byId("canvas", HTMLCanvasElement);
const marks = byId("marks", HTMLCanvasElement);
const teacherCanvas = byId("teacher-canvas", HTMLCanvasElement);
const opacity = byId("opacity", HTMLInputElement);
const outlines = byId("outlines", HTMLInputElement);
const beside = byId("beside", HTMLInputElement);
const unknown = byId("unknown", HTMLInputElement);
const target = byId("target", HTMLSelectElement);
const undo = byId("undo", HTMLButtonElement);
const files = byId("files", HTMLInputElement);
const format = byId("format", HTMLSelectElement);
const saved = byId("saved", HTMLSelectElement);

// ------------------------------------------------------------------------------------------------------- messages

/** @param {string} text */
function report(text) {
  byId("status", HTMLElement).textContent = text;
}

/** @param {unknown} error */
function complain(error) {
  byId("problem", HTMLElement).textContent = error instanceof Error ? error.message : String(error);
}

/**
 * Run an action; what goes wrong is shown.
 * @param {() => Promise<void>} action
 */
async function attempt(action) {
  byId("problem", HTMLElement).textContent = "";
  try {
    await action();
  } catch (error) {
    report(""); // what was begun is not going on
    complain(error);
  }
}

// -------------------------------------------------------------------------------------------------------- classes

const classes = new ClassList(byId("legend", HTMLUListElement), byId("unknown-list", HTMLUListElement), {
  changed: () => void attempt(predictAll),
  redraw: () => {
    classes.render(current?.labels?.legend ?? []);
    draw();
  },
  problem: complain,
});

/**
 * @param {"run" | "teacher"} by
 * @returns {import("./types.js").Query}
 */
const query = (by = "run") => ({ classes: classes.requests(), unknown: unknown.checked, by });

function fillTargets() {
  const before = target.value;
  target.replaceChildren(...classes.entries.filter((each) => each.on).map((each) => make("option", { value: each.name, text: each.name })));
  if (classes.find(before)?.on) target.value = before;
}

/** Predict the shown image, then the others. */
async function predictAll() {
  const own = ++generation;
  fillTargets();
  for (const each of images.values()) each.labels = each.byTeacher = null;
  classes.render([]);
  if (!classes.requests().length) {
    report("Type class names to see where they are.");
    draw();
    return;
  }
  const others = [...images.values()].filter((each) => each !== current);
  for (const each of current ? [current, ...others] : others) {
    await predict(each);
    if (own !== generation) return;
  }
}

/**
 * @param {Labels} labels
 * @param {Shown} shown
 */
const summary = ({ legend }, { facts }) => `${legend.filter((each) => each.share > 0).length} classes in ${facts.name}`;

/** @param {Shown} shown */
async function predict(shown) {
  const own = generation;
  if (!classes.requests().length) return;
  const start = performance.now();
  if (shown === current) canvas.dataset.ready = "";
  const labels = await engine.labels(shown.facts.id, query());
  if (own !== generation) return;
  shown.labels = labels;
  drawThumb(shown);
  if (shown !== current) return;
  report(`${summary(labels, shown)}, ${Math.round(performance.now() - start)} ms`);
  classes.render(labels.legend);
  const missing = labels.legend.filter((each) => each.source === "missing").map((each) => each.name);
  if (missing.length) complain(`${missing.join(", ")}: no name that this page holds; choose "Is" and click what it is`);
  draw();
  if (beside.checked) {
    const byTeacher = await engine.labels(shown.facts.id, query("teacher"));
    if (own !== generation) return;
    shown.byTeacher = byTeacher;
    draw();
  }
}

// --------------------------------------------------------------------------------------------------------- images

/**
 * @param {() => Promise<ImageFacts>} opened
 * @param {string} name
 */
async function open(opened, name) {
  report(`Opening ${name} …`);
  await add(await opened());
}

/** @param {ImageFacts} facts */
async function add(facts) {
  const bitmap = await engine.view(facts.id);
  /** @type {Shown} */
  const shown = { facts, bitmap, pixels: pixelsOf(bitmap), segments: null, finding: new Promise(() => {}), labels: null, byTeacher: null };
  images.set(facts.id, shown);
  renderStrip();
  const shows = show(shown); // labels first
  await Promise.all([shows, findSegments(shown)]);
}

/** @param {Shown} shown */
async function findSegments(shown) {
  shown.segments = null;
  shown.finding = engine.segments(shown.facts.id);
  shown.segments = await shown.finding;
  drawMarks();
}

/** @param {Shown} shown */
async function show(shown) {
  current = shown;
  maps = [];
  pointer = { x: shown.bitmap.width >> 1, y: shown.bitmap.height >> 1, shown: false };
  for (const each of [canvas, marks, teacherCanvas]) {
    each.width = shown.bitmap.width;
    each.height = shown.bitmap.height;
    each.classList.toggle("grown", shown.bitmap.width < 700);
  }
  marks.setAttribute("aria-label", `${shown.facts.name}: arrow keys move a pointer, Enter clicks`);
  byId("caption", HTMLElement).textContent = `${shown.facts.name}, ${shown.facts.width} × ${shown.facts.height}`;
  byId("similar", HTMLElement).replaceChildren();
  renderStrip();
  draw();
  classes.render(shown.labels?.legend ?? []);
  if (shown.labels) report(summary(shown.labels, shown));
  if (!shown.labels || (beside.checked && !shown.byTeacher)) await predict(shown);
}

function renderStrip() {
  byId("empty", HTMLElement).hidden = images.size > 0;
  byId("views", HTMLElement).hidden = byId("tools", HTMLElement).hidden = images.size === 0;
  byId("strip", HTMLElement).replaceChildren(
    ...[...images.values()].map((shown) => {
      const thumb = make("canvas", { width: "104", height: "78", "data-id": shown.facts.id });
      const select = make("button", { type: "button", class: "thumb", "aria-label": shown.facts.name, title: shown.facts.name }, thumb);
      if (shown === current) select.setAttribute("aria-current", "true");
      select.addEventListener("click", () => void attempt(() => show(shown)));
      const close = button("×", () => void attempt(() => closeImage(shown)), "close");
      close.setAttribute("aria-label", `close ${shown.facts.name}`);
      return make("li", {}, select, close);
    }),
  );
  for (const shown of images.values()) drawThumb(shown);
  byId("as-frames", HTMLButtonElement).hidden = images.size < 2;
}

/** @param {Shown} shown */
function drawThumb(shown) {
  const thumb = document.querySelector(`.thumb canvas[data-id="${shown.facts.id}"]`);
  if (!(thumb instanceof HTMLCanvasElement)) return;
  const scale = Math.max(104 / shown.bitmap.width, 78 / shown.bitmap.height);
  const [width, height] = [shown.bitmap.width * scale, shown.bitmap.height * scale];
  const at = /** @type {const} */ ([(104 - width) / 2, (78 - height) / 2, width, height]);
  const drawn = context(thumb);
  drawn.drawImage(shown.bitmap, ...at);
  if (!shown.labels) return;
  const layer = new OffscreenCanvas(shown.bitmap.width, shown.bitmap.height);
  context(layer).putImageData(painted(shown.pixels, shown.labels, classes.colors(shown.labels.legend), 0.6, false), 0, 0);
  drawn.drawImage(layer, ...at);
}

/** @param {Shown} shown */
async function closeImage(shown) {
  await engine.close(shown.facts.id);
  images.delete(shown.facts.id);
  const next = images.values().next().value ?? null;
  if (shown === current) {
    current = null;
    if (next) await show(next);
  }
  renderStrip();
}

/** @param {Iterable<File>} given */
async function openFiles(given) {
  for (const file of given) {
    if (VIDEO.test(file.name)) await attempt(() => startVideo(() => engine.video.open(file, file.name)));
    else if (CLASS_SET.test(file.name)) await attempt(() => openSet(file));
    else await attempt(() => open(() => engine.open(file, file.name || "pasted.png"), file.name || "a pasted image"));
  }
}

// -------------------------------------------------------------------------------------------------------- drawing

function draw() {
  if (!current) return;
  const { pixels, labels, byTeacher } = current;
  const alpha = Number(opacity.value) / 100;
  const image = labels ? painted(pixels, labels, classes.colors(labels.legend), alpha, outlines.checked) : pixels;
  context(canvas).putImageData(image, 0, 0);
  canvas.dataset.ready = labels ? String(generation) : "";
  const teacher = byId("teacher", HTMLElement);
  teacher.hidden = !(beside.checked && byTeacher);
  if (byTeacher) {
    context(teacherCanvas).putImageData(
      painted(pixels, byTeacher, classes.colors(byTeacher.legend), alpha, outlines.checked), 0, 0,
    );
  }
  drawMarks();
}

function drawMarks() {
  if (!current) return;
  const shown = current;
  const drawn = context(marks);
  drawn.clearRect(0, 0, marks.width, marks.height);
  const map = maps.find((each) => each.image === shown.facts.id);
  if (map) markSimilarity(drawn, map);
  const here = segmentAt(shown, pointer.x, pointer.y);
  const marked = chosen.size ? chosen : pointer.shown ? new Set([here]) : null;
  if (marked && !map && shown.segments) markSegments(drawn, shown.segments, marked);
  if (pointer.shown) markPointer(drawn, pointer.x, pointer.y);
}

/**
 * @param {Shown} shown
 * @param {number} x
 * @param {number} y
 * @returns {number} -1 until segments are found
 */
function segmentAt(shown, x, y) {
  if (!shown.segments) return -1;
  const { width, height, labels } = shown.segments;
  return labels[Math.floor((y * height) / shown.bitmap.height) * width + Math.floor((x * width) / shown.bitmap.width)];
}

// --------------------------------------------------------------------------------------------------------- clicks

const mode = () => document.querySelector('input[name="mode"]:checked')?.getAttribute("value") ?? "look";

/** @param {PointerEvent} event */
function follow(event) {
  const box = marks.getBoundingClientRect();
  // the canvas may be letterboxed in its box: object-fit is contain
  const scale = Math.min(box.width / marks.width, box.height / marks.height);
  const left = (box.width - marks.width * scale) / 2, top = (box.height - marks.height * scale) / 2;
  const x = Math.floor((event.clientX - box.left - left) / scale), y = Math.floor((event.clientY - box.top - top) / scale);
  pointer = { x: Math.min(Math.max(x, 0), marks.width - 1), y: Math.min(Math.max(y, 0), marks.height - 1), shown: true };
}

let hoverTimer = 0;
function explainSoon() {
  clearTimeout(hoverTimer);
  hoverTimer = window.setTimeout(() => void attempt(explain), HOVER_DELAY);
}

async function explain() {
  if (!current?.labels || !pointer.shown) return;
  const { x, y } = pointer;
  const found = await engine.why(current.facts.id, query(), x, y);
  if (pointer.x !== x || pointer.y !== y) return;
  byId("why", HTMLElement).replaceChildren(
    make(
      "div",
      { class: "bars" },
      ...found.best.flatMap(({ name, cosine }) => {
        const meter = make("meter", { min: "0", max: "1", value: String(Math.max(0, cosine)), "aria-label": `cosine of ${name}` });
        return [make("span", { class: "called", text: name }), meter, make("span", { class: "number", text: cosine.toFixed(3) })];
      }),
    ),
    make("p", { class: "hint", text: `pixel ${x}, ${y} · segment ${found.segment} · region ${found.region}` }),
  );
}

async function click() {
  if (!current) return;
  const shown = current, { x, y } = pointer;
  chosen.delete(-1);
  await shown.finding;
  const segments = chosen.size ? [...chosen] : [segmentAt(shown, x, y)];
  chosen = new Set();
  const what = mode();
  if (what === "look") return lookAt(shown);
  const name = target.value;
  if (!name) throw new Error("add a class first, then choose it beside the tools");
  if (what === "edit") {
    await engine.edit(shown.facts.id, segments, name);
    done.push({ kind: "edit", image: shown.facts.id });
    undo.disabled = false;
    await predict(shown);
  } else {
    await engine.addExample(shown.facts.id, segments, name, what === "negative", query());
    done.push({ kind: "example" });
    undo.disabled = false;
    await predictAll();
  }
}

/** @param {Shown} shown */
async function lookAt(shown) {
  if (maps.length) {
    maps = [];
    byId("similar", HTMLElement).replaceChildren();
    return drawMarks();
  }
  const found = await engine.similar(shown.facts.id, pointer.x, pointer.y);
  maps = found.maps;
  drawMarks();
  byId("similar", HTMLElement).replaceChildren(
    make("p", { class: "hint", text: "Nearest segments; click the image again, or Escape, to go back to the classes." }),
    ...found.nearest.flatMap(({ image, segment, cosine }) => {
      const other = images.get(image);
      if (!other) return [];
      const crop = make("canvas");
      if (other.segments) drawCrop(crop, other.bitmap, other.segments, segment);
      const place = make("button", { type: "button", title: other.facts.name, "aria-label": `${other.facts.name}, cosine ${cosine.toFixed(2)}` }, crop, cosine.toFixed(2));
      place.addEventListener("click", () =>
        void attempt(async () => {
          const kept = maps;
          if (other !== current) await show(other);
          maps = kept;
          drawMarks();
        }),
      );
      return [place];
    }),
  );
}

async function undoLast() {
  const last = done.pop();
  undo.disabled = done.length === 0;
  if (last?.kind === "example") {
    await engine.undoExample();
    await predictAll();
  } else if (last) {
    await engine.undoEdit(last.image);
    const shown = images.get(last.image);
    if (shown) await predict(shown);
  }
}

marks.addEventListener("pointerdown", (event) => {
  follow(event);
  painting = true;
  marks.setPointerCapture(event.pointerId);
  chosen = current && mode() !== "look" ? new Set([segmentAt(current, pointer.x, pointer.y)]) : new Set();
  drawMarks();
});
marks.addEventListener("pointermove", (event) => {
  follow(event);
  if (painting && current && mode() !== "look") chosen.add(segmentAt(current, pointer.x, pointer.y));
  drawMarks();
  explainSoon();
});
marks.addEventListener("pointerup", () => {
  if (!painting) return;
  painting = false;
  void attempt(click);
});
marks.addEventListener("pointercancel", () => {
  painting = false;
  chosen = new Set();
});
marks.addEventListener("pointerleave", () => {
  if (painting) return;
  pointer.shown = false;
  drawMarks();
});
marks.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 1 : Math.max(1, Math.round(marks.width / 50));
  const moves = /** @type {Record<string, [number, number]>} */ ({
    ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
  });
  const move = moves[event.key];
  if (move) {
    pointer = {
      x: Math.min(Math.max(pointer.x + move[0], 0), marks.width - 1),
      y: Math.min(Math.max(pointer.y + move[1], 0), marks.height - 1),
      shown: true,
    };
    drawMarks();
    explainSoon();
  } else if (event.key === "Enter" || event.key === " ") void attempt(click);
  else if (event.key === "Escape") {
    maps = [];
    byId("similar", HTMLElement).replaceChildren();
    drawMarks();
  } else return;
  event.preventDefault();
});

// ---------------------------------------------------------------------------------------------------------- video

/** @param {() => Promise<import("./types.js").ClipFacts>} opened */
async function startVideo(opened) {
  report("Opening a video …");
  const facts = await opened();
  const section = byId("video", HTMLElement);
  openVideo(section, engine, engine.video, facts, attempt, report);
  section.scrollIntoView({ block: "nearest" });
  report(`${facts.frames} frames`);
}

// --------------------------------------------------------------------------------------------------------- wiring

/** @param {string[] | null} names */
function fillSets(names) {
  byId("sets", HTMLElement).hidden = names === null;
  saved.replaceChildren(...(names ?? []).map((name) => make("option", { value: name, text: name })));
  byId("load-set", HTMLButtonElement).disabled = !names?.length;
}

/** @param {string} name */
async function loadSet(name) {
  if (!engine.sets) return;
  classes.replace(await engine.sets.load(name));
  done.length = 0;
  undo.disabled = true;
  await predictAll();
}

/** @param {File} file */
async function openSet(file) {
  if (!engine.sets?.open) throw new Error(`${file.name}: saved with the run; choose it in the list of saved class sets`);
  const { name, sets } = await engine.sets.open(file, file.name);
  fillSets(sets);
  saved.value = name;
  await loadSet(name);
}

const setNames = combobox(
  byId("name", HTMLInputElement), byId("completions", HTMLUListElement), byId("add", HTMLButtonElement),
  (text) => void attempt(async () => {
    if (classes.add(text)) await predictAll();
  }),
);
for (const id of ["open", "open-too"]) byId(id, HTMLButtonElement).addEventListener("click", () => files.click());
files.addEventListener("change", () => {
  void openFiles([...(files.files ?? [])]);
  files.value = "";
});
const videoFile = byId("video-file", HTMLInputElement);
byId("open-video", HTMLButtonElement).addEventListener("click", () => videoFile.click());
videoFile.addEventListener("change", () => {
  void openFiles([...(videoFile.files ?? [])]);
  videoFile.value = "";
});
byId("as-frames", HTMLButtonElement).addEventListener("click", () =>
  void attempt(() => startVideo(() => engine.video.openImages([...images.keys()]))),
);
byId("invite", HTMLButtonElement).hidden = !engine.invite;
byId("invite", HTMLButtonElement).addEventListener("click", () =>
  void attempt(async () => {
    const address = await engine.invite?.() ?? "";
    await navigator.clipboard?.writeText(address).catch(() => {});
    report(`Works once, in another browser: ${address}`);
  }),
);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  void openFiles([...(event.dataTransfer?.files ?? [])]);
});
document.addEventListener("paste", (event) => {
  const given = [...(event.clipboardData?.files ?? [])];
  if (given.length) void openFiles(given);
});
for (const each of [opacity, outlines]) each.addEventListener("input", draw);
beside.addEventListener("change", () => void attempt(async () => {
  if (beside.checked && current && !current.byTeacher) await predict(current);
  else draw();
}));
unknown.addEventListener("change", () => void attempt(predictAll));
undo.addEventListener("click", () => void attempt(undoLast));
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement && !["checkbox", "radio", "range"].includes(event.target.type);
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !typing && !undo.disabled) {
    event.preventDefault();
    void attempt(undoLast);
  }
});
/** @param {string[]} ids */
const exportThem = (ids) => attempt(async () => {
  if (!ids.length || !classes.requests().length) throw new Error("open an image and add a class first");
  const { name, data } = await engine.exportMasks(ids, format.value, query());
  keepFile(data, name);
  report(`${name}, ${Math.ceil(data.size / 1024)} KiB`);
});
byId("export-one", HTMLButtonElement).addEventListener("click", () => void exportThem(current ? [current.facts.id] : []));
byId("export-all", HTMLButtonElement).addEventListener("click", () => void exportThem([...images.keys()]));
byId("save-set", HTMLButtonElement).addEventListener("click", () =>
  void attempt(async () => {
    if (!engine.sets) return;
    const { sets, command, file } = await engine.sets.save(byId("set-name", HTMLInputElement).value.trim(), query());
    fillSets(sets);
    if (file) keepFile(file.data, file.name);
    byId("command", HTMLElement).textContent = command;
    report("Saved.");
  }),
);
byId("load-set", HTMLButtonElement).addEventListener("click", () =>
  void attempt(async () => {
    await loadSet(saved.value);
  }),
);
const setFile = byId("set-file", HTMLInputElement);
byId("open-set", HTMLButtonElement).addEventListener("click", () => setFile.click());
setFile.addEventListener("change", () => {
  void openFiles([...(setFile.files ?? [])]);
  setFile.value = "";
});

byId("title", HTMLElement).textContent = about.title;
document.title = `${about.title} · clips4`;
byId("beside-label", HTMLElement).hidden = !about.teacher;
const network = byId("network", HTMLSelectElement);
byId("network-label", HTMLElement).hidden = !engine.use || (about.networks?.length ?? 0) < 2;
network.replaceChildren(
  ...(about.networks ?? []).map(({ name, bytes }) => make("option", { value: name, text: `${name}, ${Math.round(bytes / 2 ** 20)} MiB` })),
);
network.addEventListener("change", () =>
  void attempt(async () => {
    report(`Encoding the images by ${network.value} …`);
    await engine.use?.(network.value);
    for (const each of images.values()) await findSegments(each);
    for (let i = done.length - 1; i >= 0; i--) if (done[i].kind === "edit") done.splice(i, 1); // of segments that are gone
    undo.disabled = done.length === 0;
    await predictAll();
  }),
);
byId("unknown", HTMLElement).closest("label")?.toggleAttribute("hidden", about.unknown === 0);
fillSets(about.sets);
byId("open-set", HTMLButtonElement).hidden = !engine.sets?.open;
byId("save-set", HTMLButtonElement).textContent = engine.sets?.open ? "Save as a file" : "Save with the run";
classes.replace(about.classes.map((name) => ({ name, queried: null })));
fillTargets();
classes.render([]);
renderStrip();
await attempt(async () => {
  setNames(await engine.names());
  const { images: opened, listed } = await engine.images();
  byId("listed-section", HTMLElement).hidden = !listed.length;
  byId("listed", HTMLElement).replaceChildren(
    ...listed.map(({ number, name }) => button(name, () => void attempt(() => open(() => engine.openListed(number), name)))),
  );
  for (const facts of opened) await add(facts);
});
document.body.dataset.ready = "yes";
