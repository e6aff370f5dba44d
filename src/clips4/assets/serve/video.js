// A short video: mark objects in a frame, follow them to the last one, play, correct at a later frame, export.

import { hex, paletteColor } from "./colors.js";
import { context, pixelsOf } from "./drawing.js";
import { button, keepFile, make } from "./elements.js";
import { toRuns } from "./runs.js";

/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").VideoEngine} VideoEngine */
/** @typedef {import("./types.js").ClipFacts} ClipFacts */

const POLL = 250;
const OBJECTS = 8;
const OPACITY = 0.55;

/**
 * Fill a section of the page with a video.
 * @param {HTMLElement} section
 * @param {Engine} engine
 * @param {VideoEngine} video
 * @param {ClipFacts} opened
 * @param {(action: () => Promise<void>) => Promise<void>} attempt shows what goes wrong
 * @param {(text: string) => void} report
 */
export function openVideo(section, engine, video, opened, attempt, report) {
  let facts = opened;
  let number = 0;
  let playing = 0;
  let painting = false;
  /** @type {Int32Array} */
  let mask = new Int32Array(facts.width * facts.height);
  /** @type {ImageData | null} */
  let pixels = null;
  /** @type {Map<number, import("./types.js").Segments>} */
  const segments = new Map();

  const size = { width: String(facts.width), height: String(facts.height) };
  const canvas = make("canvas", { ...size, class: "grown" });
  const marks = make("canvas", { ...size, class: "grown marks", role: "img", "aria-label": "Frame: mark objects by clicks" });
  const slider = make("input", { type: "range", min: "0", max: String(facts.frames - 1), value: "0", "aria-label": "frame" });
  const place = make("span", { class: "share" });
  const bar = make("progress", { max: "1", value: "0", "aria-label": "tracked frames" });
  const object = make("select", {}, ...Array.from({ length: OBJECTS }, (_, i) => make("option", { value: String(i + 1), text: String(i + 1) })));
  const tool = make(
    "select", {},
    make("option", { value: "pick", text: "pick segments" }),
    make("option", { value: "draw", text: "draw" }),
    make("option", { value: "erase", text: "erase" }),
  );
  const brush = make("input", { type: "range", min: "2", max: "60", value: "14", "aria-label": "width of the brush" });
  const play = button("Play", () => (playing ? pause() : start()), "quiet");
  const track = button("Track from here", () => void attempt(follow), "");
  const stop = button("Stop", () => void attempt(async () => void (facts = await video.stop(facts.id))), "quiet");
  const keep = button("Export masks", () => void attempt(async () => keepFile(await video.exportMasks(facts.id), "masks.zip")), "quiet");
  const close = button("Close", () => {
    pause();
    section.hidden = true;
    section.replaceChildren();
  }, "quiet");
  stop.disabled = true;
  keep.disabled = true;

  section.hidden = false;
  section.replaceChildren(
    make("h2", { text: "Video" }),
    make("div", { class: "row-of" }, make("label", {}, "mark by ", tool), make("label", {}, "brush ", brush), make("label", {}, "object ", object), track, stop, close),
    make("div", { class: "layers" }, canvas, marks),
    make("div", { class: "row-of" }, play, slider, place),
    make("div", { class: "row-of" }, bar, keep),
    make("p", { class: "hint", text: "Mark one or more objects, then track. To correct: go to a frame, change its mask, track from there." }),
  );

  /** @param {number} wanted */
  async function go(wanted) {
    number = wanted;
    slider.value = String(wanted);
    const tracked = facts.tracked.includes(wanted);
    const [blob, found] = await Promise.all([
      video.frame(facts.id, wanted),
      tracked ? video.mask(facts.id, wanted) : new Int32Array(facts.width * facts.height),
    ]);
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    if (number !== wanted) return;
    pixels = pixelsOf(bitmap);
    mask = found;
    context(canvas).putImageData(pixels, 0, 0);
    draw();
  }

  function draw() {
    const layer = new ImageData(facts.width, facts.height);
    for (let i = 0; i < mask.length; i++) {
      if (mask[i]) layer.data.set([...paletteColor(mask[i] - 1), 255 * OPACITY], i * 4);
    }
    context(marks).putImageData(layer, 0, 0);
    const color = hex(paletteColor(Number(object.value) - 1));
    object.style.borderColor = color;
    place.textContent = `${number + 1} of ${facts.frames}${facts.tracked.includes(number) ? ", tracked" : ""}`;
    section.dataset.frame = String(number);
    section.dataset.objects = String(new Set(mask).size - (mask.includes(0) ? 1 : 0));
  }

  /** @param {PointerEvent} event */
  async function mark(event) {
    const box = marks.getBoundingClientRect();
    const scale = Math.min(box.width / facts.width, box.height / facts.height);
    const x = Math.floor((event.clientX - box.left - (box.width - facts.width * scale) / 2) / scale);
    const y = Math.floor((event.clientY - box.top - (box.height - facts.height * scale) / 2) / scale);
    if (x < 0 || y < 0 || x >= facts.width || y >= facts.height) return;
    const value = Number(object.value);
    if (tool.value === "pick") {
      const { width, height, labels } = await segmentsOf(number);
      const at = (/** @type {number} */ px, /** @type {number} */ py) =>
        labels[Math.floor((py * height) / facts.height) * width + Math.floor((px * width) / facts.width)];
      const wanted = at(x, y);
      for (let i = 0; i < mask.length; i++) if (at(i % facts.width, Math.floor(i / facts.width)) === wanted) mask[i] = value;
    } else {
      const radius = Number(brush.value);
      for (let py = Math.max(0, y - radius); py <= Math.min(facts.height - 1, y + radius); py++) {
        for (let px = Math.max(0, x - radius); px <= Math.min(facts.width - 1, x + radius); px++) {
          if ((px - x) ** 2 + (py - y) ** 2 <= radius ** 2) mask[py * facts.width + px] = tool.value === "erase" ? 0 : value;
        }
      }
    }
    draw();
  }

  /** @param {number} frame */
  async function segmentsOf(frame) {
    let found = segments.get(frame);
    if (!found) {
      report("Finding the segments of this frame …");
      const image = await video.frameImage(facts.id, frame);
      found = await engine.segments(image.id);
      await engine.close(image.id);
      segments.set(frame, found);
      report("");
    }
    return found;
  }

  async function follow() {
    pause();
    if (!mask.some(Boolean)) throw new Error("mark an object first: click or draw on the frame");
    facts = await video.track(facts.id, number, toRuns(mask));
    stop.disabled = false;
    while (facts.state === "tracking") {
      await new Promise((resolve) => setTimeout(resolve, POLL));
      facts = await video.facts(facts.id);
      const reached = facts.tracked.length ? facts.tracked[facts.tracked.length - 1] + 1 : 0;
      bar.value = reached / facts.frames;
      report(`Tracking: frame ${reached} of ${facts.frames}`);
    }
    stop.disabled = true;
    keep.disabled = !facts.tracked.length;
    section.dataset.state = facts.state;
    if (facts.problem) throw new Error(facts.problem);
    report(facts.state === "done" ? "Tracked to the last frame." : "Stopped; the masks so far are kept.");
    await go(number);
  }

  function start() {
    const last = facts.tracked.length ? facts.tracked[facts.tracked.length - 1] : facts.frames - 1;
    if (number >= last) number = -1;
    play.textContent = "Pause";
    const step = async () => {
      if (!playing) return;
      await go(number + 1);
      if (number >= last) pause();
      else playing = window.setTimeout(() => void attempt(step), 1000 / Math.min(facts.rate, 24));
    };
    playing = window.setTimeout(() => void attempt(step), 0);
  }

  function pause() {
    clearTimeout(playing);
    playing = 0;
    play.textContent = "Play";
  }

  slider.addEventListener("input", () => {
    pause();
    void attempt(() => go(Number(slider.value)));
  });
  object.addEventListener("change", draw);
  marks.addEventListener("pointerdown", (event) => {
    painting = true;
    marks.setPointerCapture(event.pointerId);
    void attempt(() => mark(event));
  });
  marks.addEventListener("pointermove", (event) => {
    if (painting) void attempt(() => mark(event));
  });
  marks.addEventListener("pointerup", () => (painting = false));
  void attempt(() => go(0));
}
