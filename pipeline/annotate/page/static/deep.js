// A scan of 16 bits: browsers show pictures in 8, so its file (a grey PNG) is read here.

/** @typedef {{ width: number, height: number, values: Uint16Array }} Depth */

const FILE_HEAD = 8; // bytes before the first chunk
const AVERAGE = 3;
const PAETH = 4;

/**
 * @param {ArrayBuffer} file
 * @returns {Promise<Depth | null>} null: it is no grey PNG of 16 bits, or the browser cannot unpack it
 */
export async function readDeep(file) {
  const view = new DataView(file);
  const isDeep = view.byteLength > 33 && view.getUint8(24) === 16 && view.getUint8(25) === 0 && view.getUint8(28) === 0;
  if (!isDeep || typeof DecompressionStream === "undefined") return null;
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const lines = await unpacked(packedParts(view));
  return { width, height, values: unfiltered(lines, width, height) };
}

/**
 * The parts of the packed picture.
 * @param {DataView<ArrayBuffer>} view
 */
function packedParts(view) {
  const parts = [];
  for (let at = FILE_HEAD; at + 8 <= view.byteLength; ) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) parts.push(new Uint8Array(view.buffer, at + 8, length)); // IDAT
    at += 12 + length;
  }
  return parts;
}

/** @param {Uint8Array<ArrayBuffer>[]} parts */
async function unpacked(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Takes back what PNG's filters did to each line, and joins its bytes to values.
 * @param {Uint8Array} lines each after the number of its filter
 * @param {number} width
 * @param {number} height
 */
function unfiltered(lines, width, height) {
  const values = new Uint16Array(width * height);
  const stride = 2 * width;
  /** @type {Uint8Array} */
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const start = y * (stride + 1);
    const line = lines.subarray(start + 1, start + 1 + stride);
    addPrediction(lines[start] ?? 0, line, above);
    for (let x = 0; x < width; x++) values[y * width + x] = ((line[2 * x] ?? 0) << 8) | (line[2 * x + 1] ?? 0);
    above = line;
  }
  return values;
}

/**
 * PNG, 9.2: each byte was told as its difference from a prediction.
 * @param {number} filter
 * @param {Uint8Array} line
 * @param {Uint8Array} above
 */
function addPrediction(filter, line, above) {
  if (!filter) return;
  for (let i = 0; i < line.length; i++) {
    const left = i < 2 ? 0 : (line[i - 2] ?? 0);
    const up = above[i] ?? 0;
    const corner = i < 2 ? 0 : (above[i - 2] ?? 0);
    line[i] = (line[i] ?? 0) + prediction(filter, left, up, corner);
  }
}

/**
 * @param {number} filter
 * @param {number} left
 * @param {number} up
 * @param {number} corner
 */
function prediction(filter, left, up, corner) {
  if (filter === PAETH) {
    const [toLeft, toUp, toCorner] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
    if (toLeft <= toUp && toLeft <= toCorner) return left;
    return toUp <= toCorner ? up : corner;
  }
  if (filter === AVERAGE) return (left + up) >> 1;
  return filter === 1 ? left : up;
}
