// A plot: axes, values under the pointer, zoom and a legend. What is drawn in it is in kinds.js.

const LETTER = 6.9; // px, of an axis label
let clips = 0;

class Plot {
  /**
   * @param figure: element that the plot is put into.
   * @param spec: its values, see plots.py.
   * @param shared: {hidden: Set of series, heights} that several plots have in common; null: own.
   */
  constructor(figure, spec, shared = null) {
    this.figure = figure;
    this.spec = spec;
    this.kind = KINDS[spec.kind];
    this.shared = shared ?? { hidden: new Set() };
    this.view = null; // {x, y}: ranges that are looked at; null: all
    this.place = -1; // of the stop that the keyboard is at
    this.clip = `clip-${clips++}`;
    this.canvas = element("div", {
      class: "canvas",
      tabindex: 0,
      role: "img",
      "aria-label": `${spec.title}. Arrow keys read the values, + and \u2212 zoom, 0 shows all.`,
    });
    this.tools = element(
      "div",
      { class: "tools" },
      button("\u2212", { "aria-label": "Zoom out", title: "Zoom out (\u2212)" }, () =>
        this.zoom(2),
      ),
      button("+", { "aria-label": "Zoom in", title: "Zoom in (+); or drag over the plot" }, () =>
        this.zoom(0.5),
      ),
      button(
        "All",
        { class: "reset", "aria-label": "Show all", title: "Show all (0)", disabled: "" },
        () => this.reset(),
      ),
    );
    figure.append(this.tools, this.canvas);
    if (!shared) {
      this.legend = element("ul", { class: "legend" });
      this.kind.legend(this);
      figure.append(this.legend);
    }
    this.listen();
    new ResizeObserver(() => {
      if (this.canvas.clientWidth !== this.width) this.draw();
    }).observe(this.canvas);
    this.draw();
  }

  /** Series that are not switched off, with their number, which gives the colour. */
  series() {
    return this.spec.series
      .map((series, number) => ({ ...series, number, there: series !== null }))
      .filter(({ number, there }) => there && !this.shared.hidden.has(number));
  }

  draw() {
    this.width = this.canvas.clientWidth;
    if (!this.width) return;
    const all = this.kind.extent(this);
    const limits = this.view ?? all;
    this.height = this.kind.height(this);
    const margin = this.kind.margin(this, limits);
    this.box = {
      left: margin.left,
      right: this.width - margin.right,
      top: margin.top,
      bottom: this.height - margin.bottom,
    };
    this.limits = limits;
    this.x = linear(limits.x, [this.box.left, this.box.right]);
    this.y = linear(limits.y, [this.box.bottom, this.box.top]);
    const { left, right, top, bottom } = this.box;
    const size = {
      x: left,
      y: top,
      width: Math.max(0, right - left),
      height: Math.max(0, bottom - top),
    };
    this.axes = shape("g", { class: "axes" });
    this.marks = shape("g", { "clip-path": `url(#${this.clip})` });
    this.above = shape("g", { class: "above" });
    this.svg = shape(
      "svg",
      {
        width: this.width,
        height: this.height,
        viewBox: `0 0 ${this.width} ${this.height}`,
        "aria-hidden": "true",
      },
      shape("clipPath", { id: this.clip }, shape("rect", size)),
      this.axes,
      this.marks,
      this.above,
    );
    this.kind.draw(this);
    this.stops = this.kind
      .stops(this)
      .filter(
        ({ x, y }) =>
          x >= left - 1 && x <= right + 1 && (y === null || (y >= top - 6 && y <= bottom + 6)),
      );
    this.canvas.replaceChildren(this.svg);
    this.tools.querySelector(".reset").disabled = !this.view;
  }

  /** Lines and numbers of both axes. */
  grid(xs, ys, xText, yText) {
    const { left, right, top, bottom } = this.box;
    for (const value of ys) {
      const y = Math.round(this.y(value)) + 0.5;
      this.axes.append(shape("line", { x1: left, x2: right, y1: y, y2: y }));
      this.axes.append(shape("text", { x: left - 8, y: y + 3.5, class: "end" }, yText(value)));
    }
    for (const value of xs) {
      this.axes.append(this.below(this.x(value), 17, xText(value)));
    }
    this.axes.append(
      shape("line", { class: "base", x1: left, x2: right, y1: bottom + 0.5, y2: bottom + 0.5 }),
    );
    if (this.kind.names) {
      this.axes.append(this.name());
      if (this.spec.y !== this.spec.title)
        this.axes.append(shape("text", { x: 2, y: top - 9 }, this.spec.y));
    }
  }

  /** A text below the plot, so many px down, that stays within its width. */
  below(x, down, text) {
    const half = (text.length * LETTER) / 2;
    const middle = Math.max(half, Math.min(x, this.width - half));
    return shape("text", { x: middle, y: this.box.bottom + down, class: "middle" }, text);
  }

  /** What the horizontal axis is. */
  name() {
    const text = tail(this.spec.x, Math.floor(this.width / LETTER) - 2);
    return shape("text", { x: this.box.right, y: this.height - 4, class: "end" }, text);
  }

  /** Zoom about the middle, or a share of the way through what is seen. */
  zoom(factor, [atX, atY] = [0.5, 0.5]) {
    const all = this.kind.extent(this);
    const view = this.view ?? all;
    const ranged = ([low, high], [least, most], at) => {
      const size = Math.min((high - low) * factor, most - least);
      const start = Math.min(Math.max(low + (high - low - size) * at, least), most - size);
      return [start, start + size];
    };
    this.look({
      x: this.kind.zooms.includes("x") ? ranged(view.x, all.x, atX) : view.x,
      y: this.kind.zooms.includes("y") ? ranged(view.y, all.y, atY) : view.y,
    });
  }

  /** Look at these ranges; at all, where they hold all. */
  look(view) {
    const all = this.kind.extent(this);
    const whole = ["x", "y"].every(
      (axis) =>
        !this.kind.zooms.includes(axis) ||
        (view[axis][0] <= all[axis][0] && view[axis][1] >= all[axis][1]),
    );
    this.view = whole ? null : view;
    if (this.view && this.kind.fit) this.view.y = this.kind.fit(this, view.x);
    this.place = -1;
    tip.hide();
    this.draw();
  }

  reset() {
    this.look(this.kind.extent(this));
  }

  /** What is read at a stop: a line or a ring at it, and the tooltip beside it. */
  read(stop, clientY = null) {
    const { top, bottom } = this.box;
    this.above.replaceChildren(
      stop.cell
        ? shape("rect", { class: "ring", ...stop.cell })
        : stop.y === null
          ? shape("line", { class: "guide", x1: stop.x, x2: stop.x, y1: top, y2: bottom })
          : shape("circle", { class: "ring", cx: stop.x, cy: stop.y, r: 8 }),
      ...(stop.dots ?? []).map(([look, x, y]) =>
        shape("circle", { class: `dot ${look}`, cx: x, cy: y, r: 3.5 }),
      ),
    );
    const frame = this.svg.getBoundingClientRect();
    const y = clientY ?? frame.top + (stop.y ?? top + 12);
    tip.show(stop.title, stop.rows, frame.left + stop.x, y);
  }

  leave() {
    this.above?.replaceChildren();
    tip.hide();
  }

  /** The stop that is nearest to a point of the plot. */
  nearest(x, y) {
    let best = null;
    let least = Infinity;
    for (const stop of this.stops) {
      const far = stop.y === null ? Math.abs(stop.x - x) : Math.hypot(stop.x - x, stop.y - y);
      if (far < least) [best, least] = [stop, far];
    }
    return best;
  }

  listen() {
    let start = null;
    const at = (event) => {
      const frame = this.canvas.getBoundingClientRect();
      return [event.clientX - frame.left, event.clientY - frame.top];
    };
    const read = (event) => {
      const stop = this.nearest(...at(event));
      if (stop) this.read(stop, event.clientY);
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0) {
        start = at(event);
        this.canvas.setPointerCapture(event.pointerId);
      } else read(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (start && event.buttons) this.brush(start, at(event));
      else read(event);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const [from, to] = [start, at(event)];
      start = null;
      if (from) this.brushed(from, to);
    });
    this.canvas.addEventListener("pointercancel", () => ((start = null), this.leave()));
    this.canvas.addEventListener("pointerleave", () => this.leave());
    this.canvas.addEventListener("blur", () => this.leave());
    this.canvas.addEventListener("dblclick", () => this.reset());
    this.canvas.addEventListener("wheel", (event) => this.wheel(event, at(event)), {
      passive: false,
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** The wheel zooms with Ctrl held, or once a plot was clicked; else it scrolls the page. */
  wheel(event, [x, y]) {
    if (!event.ctrlKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    const { left, right, top, bottom } = this.box;
    const share = (value, from, to) => Math.min(1, Math.max(0, (value - from) / (to - from)));
    this.zoom(event.deltaY > 0 ? 1.25 : 0.8, [share(x, left, right), share(y, bottom, top)]);
  }

  /** The part that a drag from one point to another covers. */
  dragged([x0, y0], [x1, y1]) {
    const { left, right, top, bottom } = this.box;
    const between = (a, b, low, high) =>
      [a, b].sort((m, n) => m - n).map((v) => Math.min(high, Math.max(low, v)));
    const zooms = this.kind.zooms;
    return {
      x: zooms.includes("x") ? between(x0, x1, left, right) : [left, right],
      y: zooms.includes("y") ? between(y0, y1, top, bottom) : [top, bottom],
    };
  }

  brush(from, to) {
    const { x, y } = this.dragged(from, to);
    const size = { x: x[0], y: y[0], width: x[1] - x[0], height: y[1] - y[0] };
    this.above.replaceChildren(shape("rect", { class: "brush", ...size }));
    tip.hide();
  }

  brushed(from, to) {
    this.above.replaceChildren();
    const { x, y } = this.dragged(from, to);
    const far = { x: Math.abs(to[0] - from[0]), y: Math.abs(to[1] - from[1]) };
    if (![...this.kind.zooms].some((axis) => far[axis] > 8)) return;
    const limits = this.limits;
    const ys = y.map((v) => this.y.back(v)).sort((a, b) => a - b);
    this.look({
      x: this.kind.zooms.includes("x") && x[1] - x[0] > 4 ? x.map((v) => this.x.back(v)) : limits.x,
      y: this.kind.zooms.includes("y") && y[1] - y[0] > 4 ? ys : limits.y,
    });
  }

  key(event) {
    const steps = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: this.kind.row?.(this) ?? 1,
      ArrowUp: -(this.kind.row?.(this) ?? 1),
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps && this.stops.length) {
      const last = this.stops.length - 1;
      this.place = Math.min(last, Math.max(0, this.place < 0 ? 0 : this.place + steps[event.key]));
      this.read(this.stops[this.place]);
    } else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
  }
}
