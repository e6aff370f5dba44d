// Class sets as files, as clips4.models.class_set writes and reads them.

import { concatenated } from "./files.js";

/** @typedef {import("../types.js").ClassRequest} ClassRequest */
/**
 * @typedef {object} ClassSet
 * @property {ClassRequest[]} classes
 * @property {string[]} sources where the vectors of each class come from
 * @property {Float32Array} vectors (L, D) unit rows
 * @property {number[]} owner (L,) the class of each row
 * @property {boolean[]} examples (L,) rows that are segments of images
 */

const FORMAT = 1;
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9 _-]{0,62}[A-Za-z0-9_-])?$/;
const WIDTHS = { F32: 4, I64: 8, BOOL: 1 };

/** Refuse what is no name of a class set. @param {string} name */
export function checkName(name) {
  if (!NAME.test(name)) throw new Error(`${name || "the name"}: give the class set a name of letters, digits, spaces, '-' and '_', at most 64`);
}

/**
 * The bytes of a class set.
 * @param {ClassSet} set
 * @param {string} model digest of the class vectors that it belongs to
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function written({ classes, sources, vectors, owner, examples }, model) {
  const rows = owner.length, facts = {
    format: FORMAT, names: classes.map((each) => each.name), queried: classes.map(({ name, queried }) => queried ?? [name]), sources, model,
  };
  const tensors = /** @type {[string, keyof typeof WIDTHS, number[], Uint8Array][]} */ ([
    ["vectors", "F32", [rows, vectors.length / rows], new Uint8Array(Float32Array.from(vectors).buffer)],
    ["owner", "I64", [rows], new Uint8Array(BigInt64Array.from(owner, BigInt).buffer)],
    ["examples", "BOOL", [rows], Uint8Array.from(examples, Number)],
  ]);
  /** @type {Record<string, object>} */
  const header = { __metadata__: { clips4: JSON.stringify(facts) } };
  let at = 0;
  for (const [name, dtype, shape, data] of tensors) header[name] = { dtype, shape, data_offsets: [at, (at += data.length)] };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = concatenated(text, new Uint8Array(-text.length & 7).fill(32)); // tensors begin at multiples of 8
  const length = new Uint8Array(BigUint64Array.of(BigInt(padded.length)).buffer);
  return concatenated(length, padded, ...tensors.map(([, , , data]) => data));
}

/**
 * The class set in a file.
 * @param {ArrayBuffer} data
 * @param {string} name of the file
 * @param {string} model digest of this page's class vectors
 * @returns {ClassSet}
 */
export function read(data, name, model) {
  let found, facts;
  try {
    found = tensorsOf(data);
    facts = found.facts;
    if (facts.format !== FORMAT) throw new Error(`format ${facts.format}`);
  } catch (error) {
    throw new Error(`${name}: not a class set, or damaged (${error instanceof Error ? error.message : error})`, { cause: error });
  }
  if (facts.model !== model) throw new Error(`${name}: made with another run; open it there`);
  const { vectors, owner, examples } = found;
  const classes = facts.names.map((/** @type {string} */ each, /** @type {number} */ i) => ({ name: each, queried: facts.queried[i] }));
  return { classes, sources: facts.sources, vectors, owner, examples };
}

/** @param {ArrayBuffer} data */
function tensorsOf(data) {
  const length = Number(new DataView(data).getBigUint64(0, true));
  if (length > data.byteLength - 8) throw new Error("its header is cut off");
  const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(data, 8, length)));
  /** @param {string} name @param {keyof typeof WIDTHS} dtype */
  const bytes = (name, dtype) => {
    const { data_offsets: [start, end], dtype: given, shape } = header[name];
    const count = shape.reduce((/** @type {number} */ product, /** @type {number} */ side) => product * side, 1);
    if (given !== dtype || count * WIDTHS[dtype] !== end - start || 8 + length + end > data.byteLength) throw new Error(name);
    return data.slice(8 + length + start, 8 + length + end);
  };
  const vectors = new Float32Array(bytes("vectors", "F32"));
  const owner = Array.from(new BigInt64Array(bytes("owner", "I64")), Number);
  const examples = Array.from(new Uint8Array(bytes("examples", "BOOL")), Boolean);
  const facts = JSON.parse(header.__metadata__.clips4);
  const sizes = [facts.names, facts.queried, facts.sources].map((each) => each.length);
  if (new Set(sizes).size > 1 || examples.length !== owner.length || header.vectors.shape[0] !== owner.length) throw new Error("sizes differ");
  if (!vectors.every(Number.isFinite) || owner.some((each) => each < 0 || each >= sizes[0])) throw new Error("values out of range");
  return { facts, vectors, owner, examples };
}
