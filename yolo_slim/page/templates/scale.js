// Numbers on axes: a linear scale, round ticks, and values as texts.

/** A function from [low, high] to [start, end], with `back` the other way. */
function linear([low, high], [start, end]) {
  const slope = (end - start) / (high - low || 1);
  const scale = (value) => start + (value - low) * slope;
  scale.back = (pixel) => low + (pixel - start) / slope;
  return scale;
}

/** Round numbers in a range, `count` of them or so. */
function ticks([low, high], count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough * 0.999) * power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, n) => +((first + n) * step).toPrecision(12));
}

/** A number as it stands on an axis or in a tooltip. */
function written(value, digits = 4) {
  if (value === null || value === undefined) return "not measured";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(+value.toPrecision(digits)).replace("-", "\u2212");
}

/** Points of accuracy with a sign. */
function points(change) {
  const text = Math.abs(100 * change).toFixed(1);
  if (text === "0.0") return "\u00b10.0";
  return (change > 0 ? "+" : "\u2212") + text;
}

/** The lowest and the highest of some numbers, with room on both sides; zero where there are none. */
function span(values, room = 0.06) {
  const numbers = values.filter((value) => value !== null && Number.isFinite(value));
  if (!numbers.length) return [0, 1];
  const low = Math.min(...numbers);
  const high = Math.max(...numbers);
  const margin = (high - low) * room || Math.abs(high) * 0.1 || 0.5;
  return [low >= 0 && low < margin * 6 ? 0 : low - margin, high + margin];
}

/** A text of at most so many letters: its end counts. */
function tail(text, letters) {
  const all = Array.from(text);
  return all.length <= letters ? text : `\u2026${all.slice(1 - letters).join("")}`;
}

/** A text in at most two lines of so many letters. */
function folded(text, letters) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines[lines.length - 1];
    if (last && last.length + 1 + word.length > letters) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  const two = lines.length > 2 ? [lines[0], lines.slice(1).join(" ")] : lines;
  return two.map((line) => (line.length > letters ? `${line.slice(0, letters - 1)}\u2026` : line));
}

/** Names of layers without what all of them begin and end with: "model." and ".bn". */
function bare(names) {
  const ends = names.map((name) => name.split("."));
  const same = (part) =>
    ends.every((parts) => parts.length > 2 && parts.at(part) === ends[0].at(part));
  const [first, last] = [same(0), same(-1)];
  return ends.map((parts) => parts.slice(first ? 1 : 0, last ? -1 : undefined).join("."));
}
