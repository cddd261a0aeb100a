// Before and after: the boxes of two models on the same picture, and what was lost and gained.

class Compare {
  constructor(section, { models, classes, pictures }) {
    Object.assign(this, { section, models, classes, pictures });
    this.find = (selector) => section.querySelector(selector);
    this.stage = this.find(".stage");
    this.panels = [...section.querySelectorAll(".panel")];
    this.range = this.find("input[type=range]");
    this.items = [...section.querySelectorAll(".strip li")];
    this.run = models.map((_, n) => n).filter((n) => pictures.some(({ found }) => found[n]));
    this.left = this.run[0] ?? 0;
    this.right = this.run[this.run.length - 1] ?? 0;
    this.pair = this.run.length > 1;
    this.choices();
    this.listen();
    this.mode(this.pair ? "slide" : "left");
    this.sort();
    this.show(this.order[0]);
    new ResizeObserver(() => this.fit()).observe(this.stage);
  }

  choices() {
    for (const [side, id] of [
      ["left", "#left-model"],
      ["right", "#right-model"],
    ]) {
      const list = this.find(id);
      list.append(...this.run.map((n) => element("option", { value: n }, this.models[n])));
      list.value = String(this[side]);
      list.addEventListener("change", () => {
        this[side] = Number(list.value);
        this.sort();
        this.show(this.current);
      });
    }
    if (this.pair) return;
    for (const selector of [".models", ".switch"]) this.find(selector).hidden = true;
    for (const mark of ["lost", "gained"]) this.find(`[data-mark=${mark}]`).hidden = true;
    this.find("[data-mark=missed] span").textContent = "true object that is not found";
  }

  listen() {
    for (const node of this.section.querySelectorAll("[data-mode]:is(button)")) {
      node.addEventListener("click", () => this.mode(node.dataset.mode));
    }
    this.range.addEventListener("input", () => this.slide(Number(this.range.value)));
    this.find("#previous").addEventListener("click", () => this.step(-1));
    this.find("#next").addEventListener("click", () => this.step(1));
    this.items.forEach((item, n) =>
      item.querySelector("button").addEventListener("click", () => this.show(n)),
    );
    for (const id of ["#show-truth", "#show-false", "#show-names"]) {
      this.find(id).addEventListener("change", () => this.draw());
    }
    document.addEventListener("keydown", (event) => {
      const typing =
        event.target.closest?.("input, select, textarea") && event.target !== this.range;
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "n") this.step(1);
      if (event.key === "p") this.step(-1);
    });
    let dragging = false;
    const drag = (event) => {
      const { left, width } = this.stage.getBoundingClientRect();
      this.slide(Math.round(Math.min(100, Math.max(0, (100 * (event.clientX - left)) / width))));
    };
    this.stage.addEventListener("pointerdown", (event) => {
      if (this.stage.dataset.mode !== "slide" || event.button) return;
      dragging = true;
      this.stage.setPointerCapture(event.pointerId);
      event.preventDefault();
      this.range.focus({ preventScroll: true });
      tip.hide();
      drag(event);
    });
    this.stage.addEventListener("pointermove", (event) =>
      dragging ? drag(event) : this.point(event),
    );
    for (const end of ["pointerup", "pointercancel"])
      this.stage.addEventListener(end, () => (dragging = false));
    this.stage.addEventListener("pointerleave", () => tip.hide());
  }

  mode(mode) {
    this.stage.dataset.mode = mode;
    for (const node of this.section.querySelectorAll(".switch [data-mode]")) {
      node.setAttribute("aria-pressed", String(node.dataset.mode === mode));
    }
    this.slide(Number(this.range.value));
    this.fit();
  }

  /** The left model is seen in so many percent of the picture, the right one in the rest. */
  slide(share) {
    const slides = this.stage.dataset.mode === "slide";
    this.range.value = share;
    this.panels[0].style.clipPath = slides ? `inset(0 ${100 - share}% 0 0)` : "none";
    this.panels[1].style.clipPath = slides ? `inset(0 0 0 ${share}%)` : "none";
    this.find(".handle").style.left = `${share}%`;
  }

  /** The strip, most lost and gained first; pictures that are equal stay in their order. */
  sort() {
    const changed = this.pictures.map((picture) => counts(picture, this.left, this.right));
    const size = (n) => changed[n].lost + changed[n].gained;
    this.order = this.pictures.map((_, n) => n).sort((a, b) => size(b) - size(a) || a - b);
    this.order.forEach((n) => this.find(".strip").append(this.items[n]));
    changed.forEach(({ lost, gained }, n) => {
      this.items[n].querySelector(".badge.lost").textContent = `\u2212${lost}`;
      this.items[n].querySelector(".badge.gained").textContent = `+${gained}`;
      this.items[n].classList.toggle("even", !lost && !gained);
    });
  }

  step(by) {
    const place = this.order.indexOf(this.current) + by;
    this.show(this.order[(place + this.order.length) % this.order.length]);
  }

  show(n) {
    this.current = n;
    const picture = this.pictures[n];
    const source = this.items[n].querySelector("img").src;
    const [width, height] = picture.size;
    this.stage.style.setProperty("--ratio", String(width / height));
    for (const panel of this.panels) {
      panel.querySelector("img").src = source;
      panel.querySelector("img").alt = picture.name;
      panel.querySelector("svg").setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
    this.items.forEach((item, number) => item.classList.toggle("current", number === n));
    const strip = this.find(".strip");
    const item = this.items[n];
    strip.scrollTo({ left: item.offsetLeft - strip.clientWidth / 2 + item.offsetWidth / 2 });
    this.find("#picture-name").textContent = tail(picture.name, 26);
    this.find("#picture-name").title = picture.name;
    this.find("#picture-place").textContent =
      `${this.order.indexOf(n) + 1} of ${this.pictures.length}`;
    this.find(".tag.a").textContent = this.models[this.left] ?? "";
    this.find(".tag.b").textContent = this.models[this.right] ?? "";
    this.tell(counts(picture, this.left, this.right));
    this.fit();
  }

  /** What of this picture was found, lost and gained, in a sentence. */
  tell({ truths, left, right, lost, gained }) {
    const objects = `${truths} true ${truths === 1 ? "object" : "objects"}: `;
    this.find("#picture-counts").textContent = this.pair
      ? `${objects}${left.hits.size} found on the left, ${right.hits.size} on the right: ` +
        `${lost} lost, ${gained} gained. False alarms: ${left.false} and ${right.false}.`
      : `${objects}${left.hits.size} found. False alarms: ${left.false}.`;
  }

  /** Draw for the size that the picture has on the screen: labels and lines stay as they are. */
  fit() {
    const wide = this.panels
      .map((panel) => panel.querySelector("svg").clientWidth)
      .find((w) => w > 0);
    if (this.current === undefined || !wide) return;
    this.zoom = this.pictures[this.current].size[0] / wide; // px of the picture in a px of the screen
    this.draw();
  }

  draw() {
    const picture = this.pictures[this.current];
    const [left, right] = [picture.found[this.left], picture.found[this.right]];
    const pair = this.pair && left && right && this.left !== this.right;
    this.boxes = [
      judged(picture, left, pair ? right : null, true),
      judged(picture, right, pair ? left : null, false),
    ];
    this.panels.forEach((panel, side) => {
      panel.classList.toggle("absent", !picture.found[side ? this.right : this.left]);
      this.boxes[side] = this.boxes[side].filter(({ look }) => this.visible(look));
      const boxes = this.boxes[side].flatMap((found) => this.drawn(found));
      const labels = this.boxes[side].flatMap((found) => this.label(found, picture));
      panel.querySelector("svg").replaceChildren(...this.truths(picture), ...boxes, ...labels);
    });
  }

  visible(look) {
    return look !== "false" || this.find("#show-false").checked;
  }

  truths(picture) {
    if (!this.find("#show-truth").checked) return [];
    return picture.truth.map((box) => shape("rect", { class: "box truth", ...corners(box) }));
  }

  drawn({ box, look, dashed }) {
    const kind = `box ${look}${dashed && look !== "missed" ? " missed" : ""}`;
    const size = corners(box);
    return [shape("rect", { class: "halo", ...size }), shape("rect", { class: kind, ...size })];
  }

  caption(box, look, dashed) {
    const name = this.classes[box[0]] ?? `class ${box[0]}`;
    const word = { lost: "\u2212 lost", gained: "+ gained", false: "false", found: "", missed: "" }[
      look
    ];
    const names = this.find("#show-names").checked;
    if (look === "gained" && dashed) return "";
    if (look === "lost" && !dashed && !names) return "";
    const score = dashed || box[5] === undefined ? "" : box[5].toFixed(2);
    if (names) return [word, tail(name, 22), score].filter(Boolean).join(" ");
    return look === "lost" || look === "gained" ? `${word} ${tail(name, 22)}` : "";
  }

  /** A label above a box, or below it where there is no room; it stays in the picture. */
  label({ box, look, dashed }, picture) {
    const text = this.caption(box, look, dashed);
    if (!text) return [];
    const { x, y, height } = corners(box);
    const [wide, high] = picture.size;
    const small = look !== "lost" && look !== "gained";
    const [tall, letter] = (small ? [14, 6.4] : [17, 7.4]).map((size) => size * this.zoom);
    const width = Math.min(wide, Array.from(text).length * letter + 10 * this.zoom);
    const left = Math.max(0, Math.min(x, wide - width));
    const top = y >= tall ? y - tall : Math.min(y + height, high - tall);
    const words = shape("text", { x: left + 5 * this.zoom, y: top + tall * 0.74 }, text);
    words.style.fontSize = `${(small ? 10.5 : 12) * this.zoom}px`;
    const ground = shape("rect", { x: left, y: top, width, height: tall });
    return [shape("g", { class: `label ${look}` }, ground, words)];
  }

  /** The smallest box under the pointer, told in the tooltip. */
  point(event) {
    const side = this.sideAt(event);
    const frame = this.panels[side].querySelector("svg").getBoundingClientRect();
    const [x, y] = [
      (event.clientX - frame.left) * this.zoom,
      (event.clientY - frame.top) * this.zoom,
    ];
    const size = ({ box: [, left, top, right, bottom] }) => (right - left) * (bottom - top);
    const under = this.boxes[side].filter(
      ({ box: [, l, t, r, b] }) => x >= l && x <= r && y >= t && y <= b,
    );
    const best = under.sort((a, b) => size(a) - size(b))[0];
    if (!best) return tip.hide();
    const name = this.classes[best.box[0]] ?? `class ${best.box[0]}`;
    const rows = [["", this.meaning(best, side), ""]];
    if (best.box[5] !== undefined) rows.unshift(["", "confidence", best.box[5].toFixed(2)]);
    return tip.show(name, rows, event.clientX, event.clientY);
  }

  sideAt(event) {
    const mode = this.stage.dataset.mode;
    if (mode !== "slide" && mode !== "both") return mode === "right" ? 1 : 0;
    if (mode === "both") return event.target.closest?.(".panel.b") ? 1 : 0;
    const { left, width } = this.stage.getBoundingClientRect();
    return (100 * (event.clientX - left)) / width > Number(this.range.value) ? 1 : 0;
  }

  meaning({ look, dashed }, side) {
    const other = this.models[side ? this.left : this.right];
    if (look === "found") return "meets a true object";
    if (look === "false") return "meets no true object";
    if (look === "missed") return "a true object that is not found";
    return dashed
      ? `a true object that only "${other}" finds`
      : `a true object that "${other}" does not find`;
  }
}
