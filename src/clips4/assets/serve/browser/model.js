// What an exported run holds: its network, the vectors of its classes and of the names that ship, its rules.

import * as ort from "../runtime/ort.js";
import { joined } from "./predict.js";
import { inferenceSide, networkInput } from "./resize.js";

/** @typedef {import("../types.js").ClassRequest} ClassRequest */
/** @typedef {import("../types.js").NetworkFacts} NetworkFacts */
/** @typedef {import("./predict.js").Encoded} Encoded */
/** @typedef {import("./predict.js").Query} Query */
/** @typedef {import("./predict.js").Rules} Rules */
/** @typedef {{name: string, image: string, segments: number[], negative_of: string | null, vectors: Float32Array}} Examples */
/**
 * @typedef {object} Facts model/run.json, as clips4.serve.page.folder writes it
 * @property {string} version of clips4
 * @property {string} title
 * @property {number} dims D
 * @property {number} longSide larger images are reduced to it
 * @property {number} shortSide wide ones so that their short side is this, 0: likewise
 * @property {number} largestSide at most
 * @property {string[]} classes of the run
 * @property {string[]} names those of the vectors: the run's classes first
 * @property {number[]} [rows] how many vectors each name has, where it is not one
 * @property {string[]} sources of the vectors
 * @property {number} exact how many of the vectors come with 32 bits
 * @property {number} unknown U
 * @property {string[][]} suggested names of each unknown prototype
 * @property {string} digest of the run's class vectors, which class sets belong to
 * @property {Rules} rules
 * @property {NetworkFacts[]} networks
 */

/** A name as it is looked up. @param {string} name */
const key = (name) => name.normalize("NFC").replace(/\s+/g, " ").trim().toLowerCase();

export class Model {
  /**
   * @param {Facts} facts
   * @param {Float32Array} vectors (names, D)
   * @param {Float32Array} unknown (U, D)
   * @param {Float32Array} unknownByText (U, D) where all classes are text vectors
   */
  constructor(facts, vectors, unknown, unknownByText) {
    this.facts = facts;
    this.vectors = vectors;
    this.unknown = unknown;
    this.unknownByText = unknownByText;
    this.place = new Map(facts.names.map((name, index) => [key(name), index]));
    /** Where the vectors of each name begin, and where the last ones end. */
    this.begin = new Int32Array(facts.names.length + 1);
    for (let i = 0; i < facts.names.length; i++) this.begin[i + 1] = this.begin[i] + (facts.rows?.[i] ?? 1);
    /** @type {Promise<import("onnxruntime-web/wasm").InferenceSession>} */
    this.session = this.load(facts.networks[0].file);
    this.running = /** @type {Promise<unknown>} */ (this.session);
  }

  /** Of the folder that this module lies in. */
  static async load() {
    const facts = /** @type {Facts} */ (JSON.parse(new TextDecoder().decode(await fetched("model/run.json"))));
    const [exact, half] = await Promise.all([fetched("model/vectors.f32"), fetched("model/names.f16")]);
    const { dims, unknown } = facts, all = new Float32Array(exact), own = facts.exact * dims;
    const [first, second, third] = [all.subarray(0, own), all.subarray(own, own + unknown * dims), all.subarray(own + unknown * dims)];
    return new Model(facts, joined(first, fromHalf(new Uint16Array(half))), second, third);
  }

  /** @param {string} file */
  async load(file) {
    ort.env.wasm.numThreads = 1; // more need a page that is isolated from others by headers of its server
    ort.env.wasm.wasmBinary ??= await unpacked(await fetched("runtime/ort.wasm.gz"));
    return ort.InferenceSession.create(new Uint8Array(await fetched(file)), { executionProviders: ["wasm"] });
  }

  /** @param {string} name of a network */
  async use(name) {
    const found = this.facts.networks.find((each) => each.name === name);
    if (!found) throw new Error(`no network ${name}`);
    const before = await this.session;
    await this.running;
    this.session = this.load(found.file);
    await this.session;
    await before.release();
  }

  /**
   * @param {import("./resize.js").Rgba} image
   * @returns {Promise<Encoded>}
   */
  async encode(image) {
    const { width, height, values } = networkInput(image, inferenceSide(image, this.facts));
    const vectors = new ort.Tensor("float32", new Float32Array(this.facts.dims), [1, this.facts.dims]);
    const session = await this.session;
    const images = new ort.Tensor("float32", values, [1, 3, height, width]);
    const result = this.running.then(() => session.run({ images, vectors }, ["z"])); // one image at a time
    this.running = result.catch(() => {});
    const { z } = await result;
    const [, dims, rows, columns] = z.dims;
    return { z: /** @type {Float32Array} */ (z.data), dims, rows, columns };
  }

  /**
   * The vectors of classes and of their examples. A class without any has none, and the source "missing".
   * @param {ClassRequest[]} classes
   * @param {Examples[]} examples
   * @returns {Query}
   */
  query(classes, examples) {
    const { dims } = this.facts;
    /** @type {Float32Array[]} */
    const rows = [];
    /** @type {number[]} */
    const owner = [];
    /** @type {string[]} */
    const sources = [];
    for (const [index, { name, queried }] of classes.entries()) {
      const found = (queried ?? [name]).flatMap((each) => this.place.get(key(each)) ?? []);
      for (const place of found) {
        const [first, end] = this.begin.subarray(place, place + 2);
        rows.push(this.vectors.subarray(first * dims, end * dims));
        owner.push(...Array.from({ length: end - first }, () => index));
      }
      const own = examples.some((each) => each.name === name);
      sources.push(own ? "examples" : found.length ? this.facts.sources[found[0]] : "missing");
    }
    const named = owner.length;
    for (const [index, { name }] of classes.entries()) {
      for (const { vectors } of examples.filter((each) => each.name === name)) {
        rows.push(vectors);
        owner.push(...Array.from({ length: vectors.length / dims }, () => index));
      }
    }
    const names = classes.map((each) => each.name);
    if (new Set(names.map(key)).size < names.length || names.map(key).includes("unknown")) {
      throw new Error("give each class a name of its own, and none the name unknown");
    }
    if (!owner.length) throw new Error(`${names.join(", ")}: not among the ${this.facts.names.length} names of this page; add one that is`);
    return { vectors: joined(...rows), owner, names, sources, named };
  }

  /**
   * The unknown prototypes that a query is compared with.
   * @param {Query} query
   * @param {boolean} allowed
   */
  unknownOf(query, allowed) {
    if (!allowed) return new Float32Array();
    const byText = !this.facts.rules.separatesUnknown && query.sources.every((each) => each === "text" || each === "missing");
    return byText ? this.unknownByText : this.unknown;
  }
}

/** A file of the folder. @param {string} path @returns {Promise<ArrayBuffer>} */
async function fetched(path) {
  const response = await fetch(new URL(`../${path}`, import.meta.url));
  if (!response.ok) throw new Error(`${path}: ${response.status}; the folder of this page is not whole`);
  return response.arrayBuffer();
}

/**
 * What gzip packed; as it is where a server says how it is packed, so that the browser unpacked it.
 * @param {ArrayBuffer} data
 */
async function unpacked(data) {
  const [first, second] = new Uint8Array(data);
  if (first !== 0x1f || second !== 0x8b) return data;
  return new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/**
 * Numbers of 16 bits (IEEE 754) to 32.
 * @param {Uint16Array} values
 */
export function fromHalf(values) {
  const table = Float32Array.from({ length: 1 << 15 }, (_, bits) => {
    const exponent = bits >> 10, fraction = (bits & 1023) / 1024;
    return exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14; // infinity never occurs
  });
  return Float32Array.from(values, (bits) => (bits >> 15 ? -table[bits & 32767] : table[bits]));
}
