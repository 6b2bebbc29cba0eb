/**
 * Reads what `columns.py` has written: named arrays of whole numbers on an even scale, as text.
 *
 * A column's numbers lie as [episode, entry, time], each the difference to the one before in time,
 * in one byte or in two planes of bytes (low, then high), deflated, in base64.
 */

/** Bytes of a text in base64. */
function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Inflated bytes of a column. */
export async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream();
  const whole = stream.pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(whole).arrayBuffer());
}

/**
 * Numbers of a column, as [episode, time, entry]; NaN where the code is all ones.
 *
 * @param bytes inflated
 * @param column {bits, low, step, shape: [episodes, times, entries]}
 */
export function dequantised(bytes, { bits, low, step, shape: [episodes, times, entries] }) {
  const size = episodes * times * entries, mask = 2 ** bits - 1;
  const found = new Float32Array(size);
  let at = 0;
  for (let e = 0; e < episodes; e++) {
    for (let k = 0; k < entries; k++) {
      let code = 0;
      for (let t = 0; t < times; t++, at++) {
        const difference = bits === 16 ? bytes[at] + 256 * bytes[at + size] : bytes[at];
        code = (code + difference) & mask;
        found[(e * times + t) * entries + k] = code === mask ? NaN : low + step * code;
      }
    }
  }
  return found;
}

/** One recording, its columns read. */
export async function readRecording(recording) {
  const names = Object.keys(recording.columns);
  const fields = {};
  await Promise.all(
    names.map(async (name) => {
      const column = recording.columns[name];
      const values = dequantised(await inflated(column.data), column);
      const [, times, entries] = column.shape;
      /** Entries of one moment or step of an episode. */
      const at = (episode, time) => {
        const start = (episode * times + time) * entries;
        return values.subarray(start, start + entries);
      };
      fields[name] = { ...column, values, times, entries, at };
    }),
  );
  return { ...recording, fields };
}

/** Which of these returns is the best, the worst, and the one in the middle (the lower of two). */
export function marksOf(returns) {
  const order = returns.map((_, i) => i).sort((a, b) => returns[a] - returns[b] || a - b);
  const found = { worst: order[0], median: order[(order.length - 1) >> 1], best: order.at(-1) };
  return returns.map((_, i) => Object.keys(found).filter((name) => found[name] === i).join(", "));
}

/** A number as it is written on the page, with no more digits than its scale has. */
export function written(value, step = 0.001) {
  if (!Number.isFinite(value)) return "–";
  const digits = Number.isInteger(step) ? 0 : Math.min(Math.max(Math.ceil(-Math.log10(step)), 0), 4);
  return value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
}
