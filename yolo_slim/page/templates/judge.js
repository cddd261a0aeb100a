// What of a picture each of two models found, lost and gained.

const LOOKS = ["missed", "found", "false", "gained", "lost"]; // drawn in this order

/** What one of two models finds, seen beside the other. */
function judged(picture, mine, other, isLeft) {
  const matched = (boxes) =>
    new Set((boxes ?? []).map((box) => box[6]).filter((match) => match >= 0));
  const [ours, theirs] = [matched(mine), matched(other)];
  const pair = other !== null;
  const boxes = (mine ?? []).map((box) => {
    const found = box[6] >= 0;
    const alone = found && pair && !theirs.has(box[6]);
    const look = !found ? "false" : !alone ? "found" : isLeft ? "lost" : "gained";
    return { box, look, dashed: false };
  });
  picture.truth.forEach((box, n) => {
    if (ours.has(n)) return;
    const look = pair && theirs.has(n) ? (isLeft ? "gained" : "lost") : "missed";
    boxes.push({ box, look, dashed: true });
  });
  return boxes.sort((a, b) => LOOKS.indexOf(a.look) - LOOKS.indexOf(b.look));
}

/** Numbers of lost and gained objects, of found ones and of false alarms, of two models. */
function counts(picture, left, right) {
  const sets = [left, right].map((n) => {
    const boxes = picture.found[n] ?? [];
    return {
      hits: new Set(boxes.map((b) => b[6]).filter((m) => m >= 0)),
      false: boxes.filter((b) => b[6] < 0).length,
    };
  });
  const [a, b] = sets;
  const pair = left !== right && picture.found[left] && picture.found[right];
  return {
    truths: picture.truth.length,
    left: a,
    right: b,
    lost: pair ? [...a.hits].filter((n) => !b.hits.has(n)).length : 0,
    gained: pair ? [...b.hits].filter((n) => !a.hits.has(n)).length : 0,
  };
}

function corners([, left, top, right, bottom]) {
  return { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
}
