// What is drawn in a plot, kind by kind: its extent, its marks, and the stops that can be read.

const plain = {
  zooms: "x",
  names: true,
  height: (plot) => (plot.width < 480 ? 220 : 260),
  legend(plot) {
    const names = plot.spec.series.map((series) => series.name);
    if (names.length < 2) return;
    switches(plot.legend, names, plot.shared.hidden, () => plot.draw(), plot.kind.mark ?? "");
    plot.spec.series.forEach((series, number) => {
      if (series.faint) plot.legend.children[number].querySelector("i").classList.add("faint");
    });
  },
  margin(plot, limits) {
    const percent = plot.spec.unit === "%" ? "%" : "";
    const labels = ticks(limits.y, 4).map((value) => written(value) + percent);
    const left = 14 + LETTER * Math.max(...labels.map((label) => label.length));
    return { left, right: 10, top: 24, bottom: 38 };
  },
};

const LINES = {
  ...plain,
  mark: "line",
  extent(plot) {
    const at = plot.spec.at;
    const x = at.length > 1 ? [at[0], at[at.length - 1]] : [(at[0] ?? 1) - 1, (at[0] ?? 1) + 1];
    return { x, y: this.fit(plot, x) };
  },
  fit(plot, [low, high]) {
    const seen = (_, n) => plot.spec.at[n] >= low && plot.spec.at[n] <= high;
    return span(plot.series().flatMap((series) => series.values.filter(seen)));
  },
  draw(plot) {
    const unit = plot.spec.unit;
    const xs = ticks(plot.limits.x, plot.width / 80).filter(Number.isInteger);
    plot.grid(xs, ticks(plot.limits.y, 4), (v) => written(v), (v) => written(v) + (unit === "%" ? "%" : ""));
    plot.spec.marks.forEach(([at, text], number) => {
      const x = plot.x(at);
      const { top, bottom, left, right } = plot.box;
      if (x < left || x > right) return;
      const end = x > (left + right) / 2;
      plot.marks.append(shape("line", { class: "mark", x1: x, x2: x, y1: top, y2: bottom }));
      plot.above.before(
        shape("text", { class: `mark ${end ? "end" : ""}`, x: x + (end ? -5 : 5), y: top + 8 + 13 * (number % 3) }, tail(text, 26)),
      );
    });
    for (const series of plot.series()) {
      let path = "";
      let pen = "M";
      series.values.forEach((value, n) => {
        if (value === null) return void (pen = "M");
        path += `${pen}${plot.x(plot.spec.at[n]).toFixed(1)},${plot.y(value).toFixed(1)}`;
        pen = "L";
        const alone = (series.values[n - 1] ?? null) === null && (series.values[n + 1] ?? null) === null;
        if (alone) plot.marks.append(shape("circle", { class: `dot c${series.number % 6}`, cx: plot.x(plot.spec.at[n]), cy: plot.y(value), r: 3 }));
      });
      plot.marks.append(shape("path", { class: `curve c${series.number % 6}`, d: path }));
    }
  },
  stops(plot) {
    const series = plot.series();
    return plot.spec.at.map((at, n) => ({
      x: plot.x(at),
      y: null,
      title: `${plot.spec.x} ${written(at)}`,
      rows: series.map(({ name, number, values }) => [`line c${number % 6}`, name, withUnit(values[n], plot.spec.unit)]),
      dots: series.filter(({ values }) => (values[n] ?? null) !== null).map(({ number, values }) => [`c${number % 6}`, plot.x(at), plot.y(values[n])]),
    }));
  },
};

function withUnit(value, unit) {
  return written(value) + (unit && value !== null && value !== undefined ? (unit === "%" ? "%" : ` ${unit}`) : "");
}

const BARS = {
  ...plain,
  extent(plot) {
    const x = [-0.5, Math.max(1, plot.spec.names.length) - 0.5];
    return { x, y: this.fit(plot, x) };
  },
  fit(plot, [low, high]) {
    const seen = (_, n) => n + 0.5 > low && n - 0.5 < high;
    const most = Math.max(0, ...plot.series().flatMap((series) => series.values.filter(seen)));
    return [0, most * 1.1 || 1];
  },
  draw(plot) {
    const { names, notes, over } = plot.spec;
    const wide = Math.abs(plot.x(1) - plot.x(0));
    const letters = Math.max(8, Math.min(18, Math.floor((wide - 4) / LETTER)));
    const lines = names.map((name) => (over ? [tail(name, letters)] : folded(name, letters)));
    const longest = Math.max(1, ...lines.flat().map((line) => line.length));
    const every = Math.ceil((LETTER * longest + (over ? 12 : 0)) / wide);
    const shown = names.map((_, n) => n).filter((n) => n % every === 0 && inside(plot, plot.x(n)));
    plot.grid(shown, ticks(plot.limits.y, 4), (n) => lines[n][0], (v) => written(v));
    for (const n of shown.filter((n) => lines[n][1])) {
      plot.axes.append(plot.below(plot.x(n), 30, lines[n][1]));
    }
    const series = plot.series();
    const gap = Math.min(wide * 0.2, 24);
    series.forEach(({ values, number, faint }, order) => {
      const width = over ? wide - gap : (wide - gap) / series.length;
      values.forEach((value, n) => {
        if (value === null) return;
        const x = plot.x(n) - (wide - gap) / 2 + (over ? 0 : order * width);
        const y = plot.y(value);
        const look = `column c${number % 6}${faint ? " faint" : ""}${!over && notes[n] ? " undone" : ""}`;
        const height = Math.max(0, plot.box.bottom - y);
        plot.marks.append(shape("rect", { class: look, x, y, width: Math.max(0.5, width - (over ? 0 : 2)), height }));
        if (!over && width > 34) plot.marks.append(shape("text", { class: "value middle", x: x + width / 2 - 1, y: y - 5 }, written(value, 3)));
      });
    });
  },
  stops(plot) {
    return plot.spec.names.map((name, n) => ({
      x: plot.x(n),
      y: null,
      title: name,
      rows: [
        ...plot.series().map(({ name, number, values, faint }) => [`c${number % 6}${faint ? " faint" : ""}`, name, written(values[n])]),
        ...(plot.spec.notes[n] ? [["", plot.spec.notes[n], ""]] : []),
      ],
    }));
  },
};

function inside(plot, x) {
  return x >= plot.box.left && x <= plot.box.right;
}

const HISTOGRAM = {
  ...plain,
  names: false,
  height: () => 130,
  margin: () => ({ left: 8, right: 8, top: 8, bottom: 24 }),
  heights(plot) {
    return plot.series().map((series) => {
      const all = series.values.reduce((sum, value) => sum + value, 0) || 1;
      const share = plot.shared.heights !== "number";
      return { ...series, all, tops: series.values.map((value) => (share ? value / all : value)) };
    });
  },
  extent(plot) {
    const most = Math.max(0, ...this.heights(plot).flatMap(({ tops }) => tops));
    return { x: plot.spec.ends, y: [0, most * 1.05 || 1] };
  },
  edge(plot, n, bins) {
    const [low, high] = plot.spec.ends;
    return low + ((high - low) * n) / bins;
  },
  draw(plot) {
    plot.grid(ticks(plot.limits.x, 4), [], (v) => written(v), () => "");
    const zero = plot.x(0);
    if (inside(plot, zero)) plot.axes.append(shape("line", { x1: zero, x2: zero, y1: plot.box.top, y2: plot.box.bottom }));
    for (const { tops, number } of this.heights(plot)) {
      const path = tops.map((top, n) => {
        const y = plot.y(top).toFixed(1);
        return `L${plot.x(this.edge(plot, n, tops.length)).toFixed(1)},${y}L${plot.x(this.edge(plot, n + 1, tops.length)).toFixed(1)},${y}`;
      });
      const [start, end] = [0, tops.length].map((n) => plot.x(this.edge(plot, n, tops.length)).toFixed(1));
      const d = `M${start},${plot.box.bottom}${path.join("")}L${end},${plot.box.bottom}`;
      plot.marks.append(shape("path", { class: `area c${number % 6}`, d }));
    }
    plot.spec.series.forEach((series, number) => {
      if (series !== null || plot.shared.hidden.has(number)) return;
      plot.above.before(shape("text", { class: "end mark", x: plot.box.right, y: plot.box.top + 10 + 13 * number }, `gone ${data.compare.models[number] ?? ""}`.slice(0, 40)));
    });
  },
  stops(plot) {
    const series = this.heights(plot);
    const bins = series[0]?.values.length ?? 0;
    return Array.from({ length: bins }, (_, n) => ({
      x: (plot.x(this.edge(plot, n, bins)) + plot.x(this.edge(plot, n + 1, bins))) / 2,
      y: null,
      title: `${written(this.edge(plot, n, bins), 3)} to ${written(this.edge(plot, n + 1, bins), 3)}`,
      rows: series.map(({ name, number, values, all }) => [`c${number % 6}`, name, `${values[n].toLocaleString("en")} (${((100 * values[n]) / all).toFixed(1)}%)`]),
    }));
  },
};

const SYMBOLS = [
  (x, y) => shape("circle", { cx: x, cy: y, r: 5 }),
  (x, y) => shape("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9 }),
  (x, y) => shape("path", { d: `M${x},${y - 6}l6,10.5h-12z` }),
  (x, y) => shape("path", { d: `M${x},${y - 6.5}l6.5,6.5l-6.5,6.5l-6.5,-6.5z` }),
];

const SCATTER = {
  ...plain,
  zooms: "xy",
  height: (plot) => (plot.width < 480 ? 300 : 380),
  all: (plot) => plot.series().flatMap((series) => series.points.map((point) => ({ point, series }))),
  legend(plot) {
    plain.legend(plot);
    plot.spec.series.forEach((_, number) => {
      const mark = SYMBOLS[number % 4](7, 7);
      mark.setAttribute("class", `symbol c${number % 6}`);
      plot.legend.children[number]?.querySelector("i").replaceWith(shape("svg", { class: "symbol", width: 14, height: 14 }, mark));
    });
  },
  extent(plot) {
    const all = this.all(plot);
    return { x: span(all.map(({ point }) => point[0]), 0.12), y: span(all.map(({ point }) => point[1]), 0.15) };
  },
  draw(plot) {
    plot.grid(ticks(plot.limits.x, plot.width / 90), ticks(plot.limits.y, 5), (v) => written(v), (v) => written(v));
    const all = this.all(plot);
    const front = all.filter(({ point }) => point[4]).map(({ point }) => point).sort((a, b) => a[0] - b[0]);
    const path = front.map(([x, y], n) => `${n ? "L" : "M"}${plot.x(x).toFixed(1)},${plot.y(y).toFixed(1)}`).join("");
    plot.marks.append(shape("path", { class: "front", d: path }));
    const taken = all.map(({ point: [x, y] }) => around(plot.x(x), plot.y(y), 6, 6));
    for (const { point: [x, y, , label, best], series: { number } } of all) {
      const [px, py] = [plot.x(x), plot.y(y)];
      const mark = SYMBOLS[number % 4](px, py);
      mark.setAttribute("class", `symbol c${number % 6}${best ? "" : " beaten"}`);
      plot.marks.append(mark);
      const text = tail(label, 18);
      const half = (text.length * LETTER) / 2;
      const places = [[half + 10, 0], [-half - 10, 0], [0, -14], [0, 15]];
      const free = places.find(([dx, dy]) => {
        const place = around(px + dx, py + dy, half, 6);
        return within(place, plot.box) && !taken.some((other) => overlap(other, place));
      });
      if (!free) continue;
      taken.push(around(px + free[0], py + free[1], half, 6));
      plot.marks.append(shape("text", { class: "label middle", x: px + free[0], y: py + free[1] + 4 }, text));
    }
  },
  stops(plot) {
    return this.all(plot)
      .map(({ point: [x, y, fifty, label, best], series: { name } }) => ({
        x: plot.x(x),
        y: plot.y(y),
        title: `${name}: ${label}`,
        rows: [
          ["", "time", `${written(x)} ms`],
          ["", "mAP50-95", written(y, 3)],
          ["", "mAP50", written(fifty, 3)],
          ...(best ? [["", "no other is faster and better", ""]] : []),
        ],
      }))
      .sort((a, b) => a.x - b.x);
  },
};

function around(x, y, halfWidth, halfHeight) {
  return [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight];
}

function within([left, top, right, bottom], box) {
  return left >= box.left && right <= box.right && top >= box.top && bottom <= box.bottom;
}

function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}

const HEAT = {
  ...plain,
  zooms: "y",
  names: false,
  height: (plot) => Math.min(700, Math.max(120, plot.spec.names.length * 16)) + 46,
  letters: (plot) => Math.min(plot.width < 480 ? 15 : 28, Math.max(4, ...plot.spec.names.map((name) => name.length))),
  margin(plot) {
    return { left: 12 + LETTER * this.letters(plot), right: 4, top: 6, bottom: 40 };
  },
  most: (plot) => Math.max(1e-9, ...plot.spec.values.flat().map((value) => (value === null ? 0 : plot.spec.dense - value))),
  legend(plot) {
    const most = (100 * this.most(plot)).toFixed(1);
    plot.legend.append(
      element("li", { class: "ramp" }, "0", element("i", { class: "gradient" }), `${most} points lost`),
      element("li", {}, element("i", { class: "swatch gain" }), "gained"),
    );
  },
  extent: (plot) => ({ x: [-0.5, plot.spec.columns.length - 0.5], y: [0.5 - plot.spec.names.length, 0.5] }),
  draw(plot) {
    const { names, columns } = plot.spec;
    const high = Math.abs(plot.y(1) - plot.y(0));
    const every = Math.ceil(12 / high);
    const { left, bottom, right, top } = plot.box;
    names.forEach((name, n) => {
      const y = plot.y(-n);
      if (n % every || y < top || y > bottom) return;
      plot.axes.append(shape("text", { x: left - 8, y: y + 3.5, class: "end" }, tail(name, this.letters(plot))));
    });
    const wide = plot.x(1) - plot.x(0);
    const step = Math.ceil(34 / wide);
    columns.forEach((text, n) => {
      if (n % step === 0) plot.axes.append(plot.below(plot.x(n), 16, text));
    });
    plot.axes.append(plot.name());
    const most = this.most(plot);
    this.each(plot, (value, cell) => {
      const lost = value === null ? 0 : plot.spec.dense - value;
      const rect = shape("rect", { class: value === null ? "cell none" : lost < 0 ? "cell gain" : "cell", ...cell });
      rect.style.fillOpacity = value === null ? 1 : (lost < 0 ? 0.3 : 0.05) + 0.95 * Math.min(1, Math.abs(lost) / most);
      plot.marks.append(rect);
    });
  },
  /** Call with each value, the place of its cell and its row and column. */
  each(plot, call) {
    const high = Math.abs(plot.y(1) - plot.y(0));
    const wide = plot.x(1) - plot.x(0);
    const gap = high > 8 ? 1 : 0;
    plot.spec.values.forEach((row, n) =>
      row.forEach((value, column) => {
        const cell = { x: plot.x(column) - wide / 2, y: plot.y(-n) - high / 2, width: Math.max(1, wide - gap), height: Math.max(1, high - gap) };
        call(value, cell, n, column);
      }),
    );
  },
  row: (plot) => plot.spec.columns.length,
  stops(plot) {
    const stops = [];
    this.each(plot, (value, cell, n, column) => {
      const rows = [["", "mAP50-95", written(value, 3)]];
      if (value !== null) rows.push(["", "change", `${points(value - plot.spec.dense)} points`]);
      stops.push({
        x: cell.x + cell.width / 2,
        y: cell.y + cell.height / 2,
        cell,
        title: plot.spec.names[n],
        rows: [["", "cut", plot.spec.columns[column]], ...rows],
      });
    });
    return stops;
  },
};

const KINDS = { lines: LINES, bars: BARS, histogram: HISTOGRAM, scatter: SCATTER, heat: HEAT };
