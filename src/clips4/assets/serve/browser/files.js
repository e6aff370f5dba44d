// Bytes of files that browsers do not write: PNGs of labels, ZIP archives.

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** @param {Uint8Array[]} parts */
function crc32(...parts) {
  let c = 0xffffffff;
  for (const part of parts) for (let i = 0; i < part.length; i++) c = CRC[(c ^ part[i]) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/**
 * Whole numbers as bytes.
 * @param {boolean} littleEndian
 * @param {...[bytes: 1 | 2 | 4, value: number]} numbers
 */
function bytesOf(littleEndian, ...numbers) {
  const view = new DataView(new ArrayBuffer(numbers.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of numbers) {
    if (bytes === 1) view.setUint8(at, value);
    else if (bytes === 2) view.setUint16(at, value, littleEndian);
    else view.setUint32(at, value, littleEndian);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}

/**
 * A label PNG as clips4 writes it: with a palette and 255 for unknown, or of 16 bits and 65535 with more than 255 classes.
 * @param {Int16Array} labels (height, width), below 0 for unknown
 * @param {number} width
 * @param {number[][]} colors of the classes
 * @param {number[]} unknown color
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function labelPng(labels, width, colors, unknown) {
  const height = labels.length / width, wide = colors.length > 255 ? 2 : 1;
  const rows = new Uint8Array(height * (1 + width * wide));
  for (let y = 0, at = 0, i = 0; y < height; y++) {
    at++; // the row's filter: none
    for (let x = 0; x < width; x++, i++) {
      const value = labels[i] < 0 ? 65535 : labels[i];
      if (wide === 2) rows[at++] = value >> 8;
      rows[at++] = value & 255;
    }
  }
  const deflated = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(deflated).arrayBuffer());
  const header = bytesOf(false, [4, width], [4, height], [1, 8 * wide], [1, wide === 1 ? 3 : 0], [1, 0], [1, 0], [1, 0]);
  const palette = Uint8Array.from(Array.from({ length: 256 }, (_, n) => colors[n] ?? unknown).flat());
  const chunks = [chunk("IHDR", header), ...(wide === 1 ? [chunk("PLTE", palette)] : []), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return concatenated(Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), ...chunks);
}

/**
 * @param {string} kind
 * @param {Uint8Array} data
 */
function chunk(kind, data) {
  const name = new TextEncoder().encode(kind);
  return concatenated(bytesOf(false, [4, data.length]), name, data, bytesOf(false, [4, crc32(name, data)]));
}

/**
 * A ZIP archive of files as they are.
 * @param {Map<string, Uint8Array>} files
 */
export function zip(files) {
  const UTF8 = 0x800, FIRST_DAY = 0x21; // 1980-01-01
  const parts = [], directory = [];
  let at = 0;
  for (const [path, data] of files) {
    const name = new TextEncoder().encode(path);
    const facts = /** @type {[1 | 2 | 4, number][]} */ ([
      [2, 20], [2, UTF8], [2, 0], [2, 0], [2, FIRST_DAY], [4, crc32(data)], [4, data.length], [4, data.length], [2, name.length], [2, 0],
    ]);
    directory.push(bytesOf(true, [4, 0x02014b50], [2, 20], ...facts, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]), name);
    const head = bytesOf(true, [4, 0x04034b50], ...facts);
    parts.push(head, name, data);
    at += head.length + name.length + data.length;
  }
  const length = directory.reduce((sum, each) => sum + each.length, 0);
  const end = bytesOf(true, [4, 0x06054b50], [2, 0], [2, 0], [2, files.size], [2, files.size], [4, length], [4, at], [2, 0]);
  return concatenated(...parts, ...directory, end);
}

/** @param {...Uint8Array} parts */
export function concatenated(...parts) {
  const result = new Uint8Array(parts.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of parts) {
    result.set(each, at);
    at += each.length;
  }
  return result;
}
