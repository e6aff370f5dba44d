// Open images, or the frames of a file, as a video whose objects are followed frame by frame.

import { fromRuns } from "../runs.js";
import { labelPng, zip } from "./files.js";
import { Tracker } from "./tracking.js";

/** @typedef {import("./session.js").OpenImage} OpenImage */
/** @typedef {import("../types.js").ClipFacts} ClipFacts */
/** @typedef {import("../types.js").VideoEngine} VideoEngine */
/**
 * @typedef {object} Frame
 * @property {() => Promise<Blob>} shown
 * @property {() => Promise<OpenImage>} open encoded; those of a file each time, since all of them take too much memory
 *
 * @typedef {object} Clip
 * @property {string} id
 * @property {Frame[]} frames
 * @property {{width: number, height: number}} size
 * @property {number} rate frames a second
 * @property {Map<number, Int32Array>} masks by frame, as far as objects are followed
 * @property {string} state
 * @property {string} problem why following ended early
 * @property {number} job counts calls of track; an earlier one ends
 */

const RATE = 12; // frames a second that are shown, of images
const QUALITY = 0.92;

/** The palette of DAVIS: the bits of a number, dealt in turn to red, green and blue. @param {number} number */
const davisColor = (number) =>
  [0, 1, 2].map((channel) => Array.from({ length: 8 }, (_, bit) => ((number >> (3 * bit + channel)) & 1) << (7 - bit)).reduce((a, b) => a | b));

/** @param {import("./resize.js").Rgba} view */
function jpeg({ data, width, height }) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")?.putImageData(new ImageData(new Uint8ClampedArray(data), width, height), 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
}

/**
 * @param {(id: string) => OpenImage} image finds an open image
 * @param {(frame: OpenImage) => import("../types.js").ImageFacts} reopen opens a frame as an image of its own
 * @param {(file: Blob, name: string) => Promise<OpenImage>} encoded decodes and encodes an image
 * @returns {Omit<VideoEngine, "open"> & {openFrames: (files: Blob[], rate: number, name: string) => Promise<ClipFacts>}}
 */
export function clipsOf(image, reopen, encoded) {
  /** @type {Map<string, Clip>} */
  const clips = new Map();
  /** @param {string} id */
  const clip = (id) => /** @type {Clip} */ (clips.get(id));
  /** @param {Clip} clip */
  const facts = ({ id, frames, size, rate, masks, state, problem }) => ({
    id, frames: frames.length, ...size, rate, state, problem, tracked: [...masks.keys()].sort((a, b) => a - b),
  });

  /**
   * @param {Frame[]} frames
   * @param {{width: number, height: number}} size
   * @param {number} rate
   */
  function made(frames, size, rate) {
    const opened = { id: String(clips.size + 1), frames, size, rate, masks: new Map(), state: "ready", problem: "", job: 0 };
    clips.set(opened.id, opened);
    return facts(opened);
  }

  /**
   * @param {Clip} clip
   * @param {number} first
   * @param {Int32Array} mask
   */
  async function follow(clip, first, mask) {
    const job = ++clip.job, tracker = new Tracker((await clip.frames[first].open()).encoded, mask, clip.size);
    for (let number = first + 1; number < clip.frames.length; number++) {
      await new Promise((resolve) => setTimeout(resolve, 0)); // others' turn, and that of stop
      const frame = await clip.frames[number].open();
      if (clip.job !== job) return;
      clip.masks.set(number, tracker.next(frame.encoded));
    }
    clip.state = "done";
  }

  return {
    async openImages(ids) {
      const frames = ids.map(image), { width, height } = frames[0].view;
      for (const { facts, view } of frames) {
        if (view.width !== width || view.height !== height) throw new Error(`${facts.name}: not of the size of ${frames[0].facts.name}; give frames of one size`);
      }
      return made(frames.map((frame) => ({ shown: () => jpeg(frame.view), open: async () => frame })), { width, height }, RATE);
    },
    async openFrames(files, rate, name) {
      const { width, height } = await createImageBitmap(files[0]);
      const frames = files.map((file, number) => ({ shown: async () => file, open: () => encoded(file, `${name}, frame ${number + 1}`) }));
      return made(frames, { width, height }, rate);
    },
    facts: async (id) => facts(clip(id)),
    frame: (id, number) => clip(id).frames[number].shown(),
    frameImage: async (id, number) => reopen(await clip(id).frames[number].open()),
    mask: async (id, number) => /** @type {Int32Array} */ (clip(id).masks.get(number)),
    async track(id, first, runs) {
      const found = clip(id), mask = fromRuns(runs, new Int32Array(found.size.width * found.size.height));
      for (const number of found.masks.keys()) if (number >= first) found.masks.delete(number);
      found.masks.set(first, mask);
      found.state = "tracking";
      found.problem = "";
      follow(found, first, mask).catch((error) => {
        found.state = "stopped";
        found.problem = error instanceof Error ? error.message : String(error);
      });
      return facts(found);
    },
    async stop(id) {
      const found = clip(id);
      found.job++;
      if (found.state === "tracking") found.state = "stopped";
      return facts(found);
    },
    async exportMasks(id) {
      const { masks, size } = clip(id), colors = Array.from({ length: 255 }, (_, number) => davisColor(number));
      /** @type {Map<string, Uint8Array>} */
      const files = new Map();
      for (const [number, mask] of [...masks].sort(([a], [b]) => a - b)) {
        files.set(`${String(number).padStart(5, "0")}.png`, await labelPng(Int16Array.from(mask), size.width, colors, [0, 0, 0]));
      }
      return new Blob([zip(files)], { type: "application/zip" });
    },
  };
}
